# SPDX-License-Identifier: Apache-2.0
"""`transforms.json` of nerfstudio, instant-ngp and captures of phones.

nerfstudio's "Data conventions": `transform_matrix` is world_from_camera with OpenGL's camera axes,
x right, y up, z back; intrinsics `fl_x fl_y cx cy w h` [px], the first pixel's centre at 0.5, and
`k1 k2 k3 k4 p1 p2`, of all images or, in a frame, of its own. instant-ngp has `camera_angle_x`
[rad] in place of `fl_x`, and `is_fisheye`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from disam_ros import image
from disam_ros.camera import EQUIRECTANGULAR, FISHEYE, PINHOLE, Camera, same_shape, uncalibrated
from disam_ros.datasets.formats.foreign import (
    IMAGE_SUFFIXES,
    LOOKS_AHEAD,
    ForeignDataset,
    Format,
    domain_setting,
)
from disam_ros.datasets.formats.reconstruction import (
    Reconstruction,
    Shot,
    georegister_setting,
    scale_setting,
)
from disam_ros.datasets.text_rows import located, pose_of_matrix
from disam_ros.errors import DatasetError
from disam_ros.files.checking import check_entries
from disam_ros.files.reading import parse_json, read_bytes
from disam_ros.geometry import Transform

FILE = "transforms.json"
MODELS = {
    **dict.fromkeys(("SIMPLE_PINHOLE", "PINHOLE", "PERSPECTIVE"), PINHOLE),
    **dict.fromkeys(("SIMPLE_RADIAL", "RADIAL", "OPENCV"), PINHOLE),
    "OPENCV_FISHEYE": FISHEYE,
    "EQUIRECTANGULAR": EQUIRECTANGULAR,
}  # lens model by camera_model
NUMBERS = ("fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y")
BENT = ("k1", "k2", "k3", "k4", "p1", "p2")
KINDS: dict[str, Any] = {
    "camera_model": str | None,
    "is_fisheye": bool | None,
    **dict.fromkeys(("w", "h", *NUMBERS, *BENT), float | None),
}  # of what describes a camera, of all images or of one
CENTRE = (0, "cx"), (1, "cy")
FRAME = {"file_path": str, "transform_matrix": list[list[float]]}
OPENGL_FROM_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Nerfstudio(Format):
    """The frames of a capture, in a map with z up.

    scale, or georegister, gives it metres: reconstructions have no unit of length.
    """

    TITLE: ClassVar[str] = "a transforms.json of nerfstudio or instant-ngp"
    domain: str = domain_setting()
    scale: float = scale_setting()
    georegister: bool = georegister_setting()

    def _read(self, path: Path) -> ForeignDataset:
        """Read the frames in the order of their stamps. path: the file, or its folder.

        Raises DatasetError.
        """
        file = _file(path)
        data = parse_json(read_bytes(file, DatasetError), str(file), DatasetError)
        common = check_entries(data, {**KINDS, "frames": list[Any]}, str(file), DatasetError)
        shots = []
        for number, values in enumerate(common["frames"]):
            where = f"{file}, frame {number}"
            frame = check_entries(values, {**KINDS, **FRAME}, where, DatasetError)
            photo = _photo(file.parent / frame["file_path"])
            camera = {key: value for key, value in frame.items() if value is not None}
            pose = _pose(where, frame["transform_matrix"])
            lens = _camera(where, common | camera, photo) if photo.is_file() else uncalibrated()
            shots.append(Shot(frame["file_path"], photo, lens, pose))
        return Reconstruction(file.parent, str(file), file.parent, shots).dataset(
            self.domain, self.scale, self.georegister, f"nerfstudio {file.name}"
        )


def _file(path: Path) -> Path:
    """Find the file. Raises DatasetError."""
    file = path if path.is_file() else path / FILE
    if not file.is_file():
        others = sorted(other.name for other in path.glob("transforms*.json"))
        hint = f"name one of {', '.join(others)} as --input" if others else "give its folder"
        raise DatasetError(f"{file} not found; {hint}")
    return file


def _photo(path: Path) -> Path:
    """The image of a frame; instant-ngp leaves the suffix out."""
    names = (path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES)
    return path if path.is_file() else next((name for name in names if name.is_file()), path)


def _pose(where: str, rows: list[list[float]]) -> Transform:
    """Return world_from_camera of the optical frame. Raises DatasetError."""
    if [len(row) for row in rows] not in ([4] * 3, [4] * 4):
        raise DatasetError(f"{where}: expected a transform_matrix of 4x4 numbers, got {rows}")
    matrix = np.array(rows[:3]) @ OPENGL_FROM_OPTICAL
    return pose_of_matrix(f"{where}, transform_matrix", matrix)


def _camera(where: str, values: Mapping[str, Any], photo: Path) -> Camera:
    """The camera of a frame. Raises DatasetError."""
    name = values["camera_model"] or ("OPENCV_FISHEYE" if values["is_fisheye"] else "OPENCV")
    if name not in MODELS:
        raise DatasetError(
            f"{where}: the camera model {name} is not supported, only {', '.join(MODELS)}"
        )
    model = MODELS[name]
    height, width = image.read_size(photo)
    full = values["w"] or width, values["h"] or height
    if model == EQUIRECTANGULAR:
        focal, cx, cy = width / (2 * math.pi), (width - 1) / 2, (height - 1) / 2
        return Camera(width, height, focal, focal, cx, cy, (), LOOKS_AHEAD, model)
    fx = values["fl_x"] or _focal(full[0], values["camera_angle_x"])
    fy = values["fl_y"] or _focal(full[1], values["camera_angle_y"]) or fx
    if not fx:
        raise DatasetError(f"{where}: expected fl_x [px] or camera_angle_x [rad], got neither")
    centre = [full[axis] / 2 if values[key] is None else values[key] for axis, key in CENTRE]
    distortion = _distortion(where, model, values)
    camera = Camera(
        round(full[0]),
        round(full[1]),
        fx,
        fy,
        centre[0] - 0.5,
        centre[1] - 0.5,
        distortion,
        LOOKS_AHEAD,
        model,
    )
    with located(where):
        camera.check()
    return camera if (width, height) == full else _of_size(where, camera, (width, height))


def _of_size(where: str, camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of images scaled to a size (width, height). Raises DatasetError."""
    if not same_shape((camera.width, camera.height), size):
        raise DatasetError(
            f"{where}: its image has {size[0]}x{size[1]} pixels, w and h are {camera.width} and "
            f"{camera.height}, of another shape: use the images that the file describes"
        )
    return camera.resized(*size)


def _focal(side: float, angle: float | None) -> float:
    """Focal length [px] of a view of an angle [rad] across a side [px]; 0: unknown."""
    return 0.5 * side / math.tan(0.5 * angle) if angle else 0.0


def _distortion(where: str, model: str, values: Mapping[str, Any]) -> tuple[float, ...]:
    """Coefficients in OpenCV's order. Raises DatasetError."""
    k1, k2, k3, k4, p1, p2 = (values[key] or 0.0 for key in BENT)
    if model == FISHEYE:
        return k1, k2, k3, k4
    if k4:
        raise DatasetError(f"{where}: k4 of a perspective camera is not supported, got {k4:g}")
    bent = (k1, k2, p1, p2, k3) if k3 else (k1, k2, p1, p2)
    return bent if any(bent) else ()
