# SPDX-License-Identifier: Apache-2.0
"""CMU-Seasons and Extended CMU-Seasons (Sattler et al., CVPR 2018; Badino et al., 2011).

Facts are from the READMEs of the two data sets. Names of the files in `3D-models/` and
`intrinsics/`, which the README of CMU-Seasons leaves open, are as public readers use them.

CMU-Seasons, undistorted images ("rect"), no poses of queries:
    images/sliceN/{database,query}/img_NNNNN_cX_<µs>us_rect.jpg
    3D-models/nvm_models/sliceN.nvm
    intrinsics/cX_calib.txt                 a matrix 3×3
Extended CMU-Seasons, images with lens distortion, poses of about half of the queries:
    sliceN/{database,query}/img_NNNNN_cX_<µs>us.jpg
    sliceN/ground-truth-database-images-sliceN.txt, sliceN/camera-poses/*.txt
    intrinsics.txt                          cX OPENCV width height fx fy cx cy k1 k2 p1 p2

Both kinds of pose hold the rotation world→camera (w x y z) and the camera's CENTRE, unlike the
lines of a submission, which hold the translation. Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

import re
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
    pose_at_center,
    warn_of_unused_poses,
)
from disam_ros.datasets.formats.nvm import read_nvm
from disam_ros.datasets.text_rows import text_rows, to_floats
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.settings import REQUIRED, setting

CAMERAS = ("c0", "c1")
SIZE = (1024, 768)  # width, height of CMU-Seasons (lines of its query lists)
PITTSBURGH = (40.44, -79.95)  # degrees north and east, near enough for the sun
# First five digits of the images' Unix time (units of 28 hours) → domain, one for each drive
DOMAINS = {
    "13033": "cmu_sunny_no_foliage",  # 4 Apr 2011, the reference
    "12833": "cmu_sunny_foliage_1sep",
    "12845": "cmu_sunny_foliage_15sep",
    "12859": "cmu_cloudy_foliage",
    "12875": "cmu_sunny_foliage_19oct",
    "12881": "cmu_overcast_mixed_foliage",
    "12887": "cmu_low_sun_mixed_foliage_3nov",
    "12895": "cmu_low_sun_mixed_foliage_12nov",
    "12904": "cmu_cloudy_mixed_foliage",
    "12929": "cmu_low_sun_snow",
    "12992": "cmu_low_sun_foliage",
    "13118": "cmu_overcast_foliage",
}


@dataclass(frozen=True)
class CmuSeasons(Format):
    """One slice: database and query images in time order, poses in the slice's own frame."""

    TITLE: ClassVar[str] = "a slice of CMU-Seasons or Extended CMU-Seasons"
    slice: int = setting(REQUIRED, "number of the slice, such as 2", minimum=0, maximum=10_000)

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the slice. Domains are the twelve conditions by their capture dates.

        Raises DatasetError.
        """
        name = f"slice{self.slice}"
        extended = directory / name / f"ground-truth-database-images-{name}.txt"
        if extended.is_file():
            folder, ending = directory / name, "us.jpg"
            cameras, poses = _extended_cameras(directory / "intrinsics.txt"), _read_poses(extended)
            for file in sorted((folder / "camera-poses").glob("*.txt")):
                poses.update(_read_poses(file))
        elif (directory / "images" / name).is_dir():
            folder, ending = directory / "images" / name, "us_rect.jpg"
            cameras = {camera: _camera(directory, camera) for camera in CAMERAS}
            model = read_nvm(directory / "3D-models" / "nvm_models" / f"{name}.nvm")
            poses = {Path(file).stem: pose for file, pose in model.items()}
        else:
            raise DatasetError(
                f"{directory} holds no {name}: expected images/{name} (CMU-Seasons) or "
                f"{extended.relative_to(directory)} (Extended CMU-Seasons)"
            )
        images = _images(directory, folder, ending, poses)
        origin = f"CMU-Seasons {name}"
        info = DatasetInfo(f"cmu_seasons_{name}", cameras, "map", *PITTSBURGH, origin=origin)
        return ForeignDataset(directory, info, images)


def _images(
    directory: Path, folder: Path, ending: str, poses: dict[str, Transform]
) -> list[ForeignImage]:
    """Images in time order. poses: by file name without suffix; those used are taken out."""
    pattern = re.compile(rf"img_\d+_(c[01])_(\d+){re.escape(ending)}")
    images = []
    for part in (folder / "database", folder / "query"):
        for path in image_files(part) if part.is_dir() else []:
            match = pattern.fullmatch(path.name)
            if not match or match[2][:5] not in DOMAINS:
                raise DatasetError(
                    f"{path}: expected a name img_NNNNN_cX_<µs>{ending} with a time that begins "
                    f"with one of {', '.join(sorted(DOMAINS))}"
                )
            stamp_ns, domain = int(match[2]) * 1000, DOMAINS[match[2][:5]]
            source, pose = path.relative_to(directory).as_posix(), poses.pop(path.stem, None)
            images.append(ForeignImage(stamp_ns, match[1], domain, source, pose))
    if not images:
        raise DatasetError(f"{folder} holds neither database nor query images; unpack them there")
    warn_of_unused_poses(poses, images, str(folder))
    return sorted(images, key=lambda image: (image.stamp_ns, image.camera))


def _read_poses(path: Path) -> dict[str, Transform]:
    """Read map_from_camera by file name without suffix: lines `name qw qx qy qz cx cy cz`."""
    poses = {}
    for where, (name, *fields) in text_rows(path):
        values = to_floats(where, fields, "qw qx qy qz cx cy cz")
        poses[Path(name).stem] = pose_at_center(where, values[:4], values[4:])
    return poses


def _camera(directory: Path, name: str) -> Camera:
    """A camera of CMU-Seasons, whose images are undistorted."""
    path = directory / "intrinsics" / f"{name}_calib.txt"
    fields = [field for _, row in text_rows(path) for field in row]
    k = to_floats(str(path), fields, "fx 0 cx 0 fy cy 0 0 1")
    return pinhole(SIZE, [k[0], k[4], k[2], k[5]], str(path))


def _extended_cameras(path: Path) -> dict[str, Camera]:
    """The cameras of Extended CMU-Seasons, by name."""
    cameras = {}
    for where, fields in text_rows(path):
        if fields[0] not in CAMERAS:
            continue
        if fields[1:2] != ["OPENCV"]:
            raise DatasetError(f"{where}: expected the camera model OPENCV, got {fields[1:2]}")
        values = to_floats(where, fields[2:], "width height fx fy cx cy k1 k2 p1 p2")
        cameras[fields[0]] = pinhole((int(values[0]), int(values[1])), values[2:].tolist(), where)
    if set(cameras) != set(CAMERAS):
        raise DatasetError(f"{path}: expected the cameras c0 and c1, got {sorted(cameras)}")
    return cameras
