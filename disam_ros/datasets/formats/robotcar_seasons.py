# SPDX-License-Identifier: Apache-2.0
"""RobotCar-Seasons (Sattler et al., CVPR 2018; Maddern et al., IJRR 2017).

From the data set's README: undistorted images `images/<condition>/{left,rear,right}/<µs>.jpg`, of
which `overcast-reference` has poses, in `3D-models/all-merged/all.nvm` (rotation world→camera and
camera CENTRE; axes x right, y down, z forward). From public readers (kapture, hloc): images have
1024×1024 pixels, `intrinsics/<camera>_intrinsics.txt` has lines `fx …`, `fy …`, `cx …`, `cy …`, the
model names images .png, and the optional `robotcar_v2_train.txt` (version 2) has lines
`<condition>/rear/<µs>.jpg` and a 4×4 matrix camera→world, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.foreign import (
    ForeignDataset,
    ForeignImage,
    Format,
    image_files,
    pinhole,
    warn_of_unused_poses,
)
from disam_ros.datasets.formats.nvm import read_nvm
from disam_ros.datasets.text_rows import pose_of_matrix, text_rows, to_floats
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform

CAMERAS = ("left", "rear", "right")
SIZE = (1024, 1024)  # width, height
OXFORD = (51.76, -1.26)  # degrees north and east, near enough for the sun
REFERENCE = "overcast-reference"
CONDITIONS = (
    REFERENCE,
    "dawn",
    "dusk",
    "night",
    "night-rain",
    "overcast-summer",
    "overcast-winter",
    "rain",
    "snow",
    "sun",
)


@dataclass(frozen=True)
class RobotcarSeasons(Format):
    """All conditions that are unpacked, in time order; poses in the reference model's frame."""

    TITLE: ClassVar[str] = "RobotCar-Seasons, all conditions that are unpacked"

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the images. The domain of a condition is its name with _ for - after `robotcar_`.

        Raises DatasetError.
        """
        conditions = [name for name in CONDITIONS if (directory / "images" / name).is_dir()]
        if not conditions:
            raise DatasetError(
                f"{directory / 'images'} holds none of the folders {', '.join(CONDITIONS)}; unpack "
                "the images of one or more conditions there"
            )
        poses = _read_poses(directory, with_reference=REFERENCE in conditions)
        images = [image for name in conditions for image in _images(directory, name, poses)]
        warn_of_unused_poses(poses, images, str(directory))
        cameras = {name: _camera(directory, name) for name in CAMERAS}
        info = DatasetInfo("robotcar_seasons", cameras, "map", *OXFORD, origin="RobotCar-Seasons")
        images.sort(key=lambda image: (image.stamp_ns, image.camera))
        return ForeignDataset(directory, info, images)


def _images(directory: Path, condition: str, poses: dict[str, Transform]) -> list[ForeignImage]:
    """The images of a condition. poses: by `camera/<µs>`; those used are taken out."""
    domain = f"robotcar_{condition.replace('-', '_')}"
    folders = [directory / "images" / condition / camera for camera in CAMERAS]
    images = []
    for path in (path for folder in folders if folder.is_dir() for path in image_files(folder)):
        if not path.stem.isdigit():
            raise DatasetError(f"{path}: expected a name <µs>.jpg, microseconds since 1970")
        camera, source = path.parent.name, path.relative_to(directory).as_posix()
        pose = poses.pop(f"{camera}/{path.stem}", None)
        images.append(ForeignImage(int(path.stem) * 1000, camera, domain, source, pose))
    if not images:
        raise DatasetError(f"{folders[0].parent} holds none of the folders {', '.join(CAMERAS)}")
    return images


def _read_poses(directory: Path, with_reference: bool) -> dict[str, Transform]:
    """Read map_from_camera by `camera/<µs>`: a time stamp belongs to one condition only."""
    poses = {}
    if with_reference:
        model = read_nvm(directory / "3D-models" / "all-merged" / "all.nvm")
        poses = {_key(name): pose for name, pose in model.items()}
    train = directory / "robotcar_v2_train.txt"
    for where, (name, *fields) in text_rows(train) if train.is_file() else ():
        values = to_floats(where, fields, " ".join(f"m{i}{j}" for i in "1234" for j in "1234"))
        poses[_key(name)] = pose_of_matrix(where, values.reshape(4, 4)[:3])
    return poses


def _key(name: str) -> str:
    path = Path(name)
    return f"{path.parent.name}/{path.stem}"


def _camera(directory: Path, name: str) -> Camera:
    path = directory / "intrinsics" / f"{name}_intrinsics.txt"
    rows = {fields[0].rstrip(":"): (where, fields[1:]) for where, fields in text_rows(path)}
    missing = {"fx", "fy", "cx", "cy"} - set(rows)
    if missing:
        raise DatasetError(f"{path}: expected lines fx, fy, cx, cy; {sorted(missing)} missing")
    values = [float(to_floats(*rows[key], key)[0]) for key in ("fx", "fy", "cx", "cy")]
    return pinhole(SIZE, values, str(path))
