# SPDX-License-Identifier: Apache-2.0
"""KITTI odometry (Geiger et al., CVPR 2012).

From the development kit's readme: rectified images `sequences/NN/image_C/NNNNNN.png`, `times.txt`
with seconds from the start, `calib.txt` with projection matrices `PC:` [3, 4] that map points in
CAMERA 0's frame into image C, and `poses/NN.txt` (sequences 00 to 10) with matrices [3, 4] that map
camera 0 of the frame (z forward) to camera 0 of the first. With PC = K [I | t], t is camera 0's
origin seen from camera C.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.formats.foreign import LOOKS_AHEAD, ForeignDataset, image_files
from disam_ros.datasets.text_rows import pose_of_matrix, text_rows, to_floats
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform

CAMERA = "front"
MATRIX = " ".join(f"m{row}{column}" for row in "123" for column in "1234")


def read(
    directory: Path | str, *, sequence: str, domain: str, camera_number: int = 2
) -> ForeignDataset:
    """One sequence of one camera; the map is camera 0's first frame turned to REP-103 axes (x
    forward, y left, z up), the base sits at camera 0. Clocks are unknown: stamps begin at 0.

    Images of the sequences 11 to 21 have no poses. Raises DatasetError.
    """
    directory = Path(directory)
    folder = directory / "sequences" / sequence
    if not folder.is_dir():
        found = sorted(path.name for path in directory.glob("sequences/*"))
        raise DatasetError(f"{folder} not found; {directory} holds the sequences {found}")
    files = image_files(folder / f"image_{camera_number}")
    intrinsics, zero_from_camera = _read_calibration(folder / "calib.txt", camera_number)
    times = [to_floats(*row, "seconds")[0] for row in text_rows(folder / "times.txt")]
    poses = _read_poses(directory / "poses" / f"{sequence}.txt")
    if poses and len(poses) != len(times):
        raise DatasetError(f"{folder}: times.txt has {len(times)} rows, the poses {len(poses)}")
    records = []
    for path in files:
        if not path.stem.isdigit() or int(path.stem) >= len(times):
            raise DatasetError(
                f"{path}: expected a frame number below {len(times)}, the rows of times.txt"
            )
        number = int(path.stem)
        pose = LOOKS_AHEAD @ poses[number] @ zero_from_camera if poses else None
        source = path.relative_to(directory).as_posix()
        records.append(ImageRecord(0, round(times[number] * 1e9), CAMERA, domain, source, pose))
    height, width = image.read_size(files[0])
    camera = Camera(width, height, *intrinsics, (), LOOKS_AHEAD @ zero_from_camera)
    name = f"kitti_{sequence}"
    info = DatasetInfo(name, {CAMERA: camera}, origin=f"KITTI odometry, camera {camera_number}")
    return ForeignDataset(directory, info, records)


def _read_calibration(path: Path, number: int) -> tuple[list[float], Transform]:
    """fx fy cx cy (pixels) and the pose of the camera in camera 0's frame."""
    for where, fields in text_rows(path):
        if fields[0].rstrip(":") == f"P{number}":
            projection = to_floats(where, fields[1:], MATRIX).reshape(3, 4)
            k = projection[:, :3]
            if not min(k[0, 0], k[1, 1]) > 0:
                raise DatasetError(f"{where}: expected focal lengths above 0, got {k.tolist()}")
            camera_from_zero = Transform.from_rotation(
                np.linalg.solve(k, projection[:, 3]), np.eye(3)
            )
            return [k[0, 0], k[1, 1], k[0, 2], k[1, 2]], camera_from_zero.inverse()
    raise DatasetError(f"{path} has no line P{number}: with 12 numbers")


def _read_poses(path: Path) -> list[Transform]:
    """Camera 0 of the first frame from camera 0 of each frame; empty where there is no file."""
    rows = text_rows(path) if path.is_file() else ()
    return [
        pose_of_matrix(where, to_floats(where, fields, MATRIX).reshape(3, 4))
        for where, fields in rows
    ]
