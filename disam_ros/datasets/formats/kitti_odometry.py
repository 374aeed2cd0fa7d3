# SPDX-License-Identifier: Apache-2.0
"""KITTI odometry (Geiger et al., CVPR 2012).

From the development kit's readme: rectified images `sequences/NN/image_C/NNNNNN.png`, `times.txt`
with seconds from the start, `calib.txt` with projection matrices `PC:` [3, 4] that map points in
CAMERA 0's frame into image C, and `poses/NN.txt` (sequences 00 to 10) with matrices [3, 4] that map
camera 0 of the frame (z forward) to camera 0 of the first. With PC = K [I | t], t is camera 0's
origin seen from camera C.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.foreign import (
    LOOKS_AHEAD,
    ForeignDataset,
    ForeignImage,
    Format,
    domain_setting,
    image_files,
)
from disam_ros.datasets.text_rows import matrix_of, nanoseconds, pose_of_matrix, text_rows
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.geometry import Transform
from disam_ros.settings import REQUIRED, setting

CAMERA = "front"


@dataclass(frozen=True)
class KittiOdometry(Format):
    """One sequence of one camera.

    The map is camera 0's first frame turned to REP-103 axes (x forward, y left, z up), the base
    sits at camera 0. Clocks are unknown: stamps begin at 0.
    """

    TITLE: ClassVar[str] = "a sequence of KITTI odometry"
    sequence: str = setting(REQUIRED, "sequence, such as 00")
    domain: str = domain_setting()
    camera: int = setting(2, "number of the camera; 2: left colour", minimum=0, maximum=3)

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the images; those of the sequences 11 to 21 have no poses. Raises DatasetError."""
        folder = directory / "sequences" / self.sequence
        if not folder.is_dir():
            names = sorted(folder.name for folder in directory.glob("sequences/*"))
            raise DatasetError(f"{folder} not found; {directory} holds the sequences {names}")
        files = image_files(folder / f"image_{self.camera}")
        k, zero_from_camera = _read_calibration(folder / "calib.txt", self.camera)
        times = [
            nanoseconds(where, " ".join(fields))
            for where, fields in text_rows(folder / "times.txt")
        ]
        poses = _read_poses(directory / "poses" / f"{self.sequence}.txt")
        if poses and len(poses) != len(times):
            raise DatasetError(f"{folder}: times.txt has {len(times)} rows, the poses {len(poses)}")
        images = []
        for file in files:
            if not file.stem.isdecimal() or int(file.stem) >= len(times):
                raise DatasetError(
                    f"{file}: expected a frame number below {len(times)}, the rows of times.txt"
                )
            number = int(file.stem)
            pose = LOOKS_AHEAD @ poses[number] @ zero_from_camera if poses else None
            stamp_ns, source = times[number], file.relative_to(directory)
            images.append(ForeignImage(stamp_ns, CAMERA, self.domain, source.as_posix(), pose))
        height, width = image.read_size(files[0])
        fx, fy, cx, cy = k[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        mount = LOOKS_AHEAD @ zero_from_camera
        camera = Camera(width, height, fx, fy, cx, cy, base_from_camera=mount)
        origin = f"KITTI odometry, camera {self.camera}"
        info = DatasetInfo(f"kitti_{self.sequence}", {CAMERA: camera}, origin=origin)
        return ForeignDataset(directory, info, images)


def _read_calibration(path: Path, number: int) -> tuple[NDArray[np.float64], Transform]:
    """The matrix of intrinsics [3, 3] [px] and the pose of the camera in camera 0's frame."""
    for where, fields in text_rows(path):
        if fields[0].rstrip(":") == f"P{number}":
            projection = matrix_of(where, fields[1:])
            k = projection[:, :3]
            if not min(k[0, 0], k[1, 1]) > 0:
                raise DatasetError(f"{where}: expected focal lengths above 0, got {k.tolist()}")
            try:
                origin = np.asarray(np.linalg.solve(k, projection[:, 3]), np.float64)
                return k, Transform.from_rotation(origin, np.eye(3)).inverse()
            except (np.linalg.LinAlgError, GeometryError) as error:
                raise DatasetError(f"{where}: expected a camera's matrix: {error}") from error
    raise DatasetError(f"{path} has no line P{number}: with 12 numbers")


def _read_poses(path: Path) -> list[Transform]:
    """Read first_from_frame of camera 0; empty where there is no file."""
    rows = text_rows(path) if path.is_file() else ()
    return [pose_of_matrix(where, matrix_of(where, fields)) for where, fields in rows]
