# SPDX-License-Identifier: Apache-2.0
"""Sparse models of COLMAP: `cameras` and `images`, as text or binary.

COLMAP's reconstruction_io_text.cc and reconstruction_io_binary.cc define the layout: poses are
camera_from_world, quaternions w first, optical axes; the first pixel's centre is at 0.5.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import FISHEYE, PINHOLE, Camera
from disam_ros.datasets.formats.foreign import (
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
from disam_ros.datasets.text_rows import located, text_rows, to_floats
from disam_ros.errors import DatasetError
from disam_ros.files.reading import read_lines, reading
from disam_ros.geometry import Transform
from disam_ros.settings import setting

T = TypeVar("T")

# Model → its number in binary files, and the parameters that it has of OpenCV's.
MODELS = {
    "SIMPLE_PINHOLE": (0, "f cx cy"),
    "PINHOLE": (1, "fx fy cx cy"),
    "SIMPLE_RADIAL": (2, "f cx cy k1"),
    "RADIAL": (3, "f cx cy k1 k2"),
    "OPENCV": (4, "fx fy cx cy k1 k2 p1 p2"),
    "OPENCV_FISHEYE": (5, "fx fy cx cy k1 k2 k3 k4"),
    "FULL_OPENCV": (6, "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "SIMPLE_RADIAL_FISHEYE": (8, "f cx cy k1"),
    "RADIAL_FISHEYE": (9, "f cx cy k1 k2"),
}
NAMES = {number: name for name, (number, _) in MODELS.items()}
DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
MAX_NAME = 4096  # bytes


@dataclass(frozen=True)
class Registered:
    """An image of a model."""

    name: str
    camera: int
    camera_from_world: NDArray[np.float64]  # w x y z tx ty tz
    where: str  # in the files, for errors

    @property
    def world_from_camera(self) -> Transform:
        """The camera's pose. Raises DatasetError where it is none."""
        w, x, y, z, *shift = self.camera_from_world
        with located(self.where):
            return Transform(np.array(shift), np.array([x, y, z, w])).inverse()


@dataclass(frozen=True)
class Colmap(Format):
    """The registered images of a project, in a map with z up.

    A model has no unit of length: scale, or georegister, gives it one; a model in Earth-centred
    metres needs neither.
    """

    TITLE: ClassVar[str] = "images with a sparse model of COLMAP"
    domain: str = domain_setting()
    images: str = setting("images", "folder of the images in the input directory")
    model: str = setting(
        "", "folder of the model in the input directory; default: sparse/0 or sparse"
    )
    scale: float = scale_setting()
    georegister: bool = georegister_setting()

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the images in the order of their stamps. Raises DatasetError."""
        folder = _model_folder(directory, self.model)
        cameras, registered = read_model(folder)
        if unknown := {item.camera for item in registered} - set(cameras):
            raise DatasetError(
                f"{folder}: images are of camera {min(unknown)}, which cameras lacks"
            )
        images = directory / self.images
        shots = [
            Shot(item.name, images / item.name, cameras[item.camera], item.world_from_camera)
            for item in registered
        ]
        return Reconstruction(directory, str(folder), images, shots).dataset(
            self.domain, self.scale, self.georegister, f"COLMAP {folder.name}"
        )


def read_model(folder: Path) -> tuple[dict[int, Camera], list[Registered]]:
    """Read the cameras by number, and the images, of a model, binary if there is both.

    Raises DatasetError.
    """
    if (folder / "images.bin").is_file():
        cameras = _counted(folder / "cameras.bin", _binary_camera)
        return dict(cameras), list(_counted(folder / "images.bin", _binary_image))
    return dict(_text_cameras(folder / "cameras.txt")), list(_text_images(folder / "images.txt"))


def _model_folder(directory: Path, model: str) -> Path:
    """Find the folder of the model. Raises DatasetError."""
    for name in [model] if model else ["sparse/0", "sparse", "."]:
        folder = directory / name
        for suffix in ("bin", "txt"):
            if all((folder / f"{part}.{suffix}").is_file() for part in ("cameras", "images")):
                return folder
    raise DatasetError(
        f"{directory}: expected cameras.bin and images.bin, or cameras.txt and images.txt, in "
        f"{model or 'sparse/0, sparse or the folder itself'}; name their folder with --model"
    )


def _camera(where: str, model: str, size: tuple[int, int], values: NDArray[np.float64]) -> Camera:
    parameters = dict(zip(MODELS[model][1].split(), values.tolist(), strict=True))
    lens = FISHEYE if model.endswith("FISHEYE") else PINHOLE
    names = ("k1", "k2", "k3", "k4") if lens == FISHEYE else DISTORTION
    distortion = tuple(parameters.get(name, 0.0) for name in names)
    if not any(distortion[4:]):
        distortion = distortion[:4]
    focal = parameters.get("f", 0.0)
    fx, fy = parameters.get("fx", focal), parameters.get("fy", focal)
    cx, cy = parameters["cx"] - 0.5, parameters["cy"] - 0.5
    distortion = distortion if any(distortion) or lens == FISHEYE else ()
    camera = Camera(*size, fx, fy, cx, cy, distortion, LOOKS_AHEAD, lens)
    with located(where):
        camera.check()
    return camera


def _known_model(where: str, model: str) -> str:
    if model not in MODELS:
        raise DatasetError(
            f"{where}: the camera model {model} cannot be undone, only {', '.join(MODELS)}: "
            f"undistort the images with `colmap image_undistorter`"
        )
    return model


def _text_cameras(path: Path) -> Iterator[tuple[int, Camera]]:
    for where, fields in text_rows(path):
        model = _known_model(where, "".join(fields[1:2]))
        expected = f"id width height {MODELS[model][1]}"
        values = to_floats(where, [fields[0], *fields[2:]], expected)
        number, width, height = map(int, values[:3])
        yield number, _camera(where, model, (width, height), values[3:])


def _text_images(path: Path) -> Iterator[Registered]:
    """Read two lines each: pose, camera and name, then keypoints, which may be none."""
    lines = enumerate(read_lines(path, DatasetError), 1)
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        where, fields = f"{path} line {number}", line.strip().split(None, 9)
        values = to_floats(where, fields[:9], "id qw qx qy qz tx ty tz camera")
        if len(fields) < 10:
            raise DatasetError(f"{where}: expected the name of an image after its camera")
        yield Registered(fields[9], int(values[8]), values[1:8], where)
        next(lines, None)


def _counted(path: Path, read_one: Callable[[BinaryIO, Path], T]) -> Iterator[T]:
    """Read the items of a binary file, whose number comes first."""
    with reading(path, DatasetError), path.open("rb") as file:
        (count,) = _unpack(file, path, "<Q")
        for _ in range(count):
            yield read_one(file, path)


def _binary_camera(file: BinaryIO, path: Path) -> tuple[int, Camera]:
    number, model, width, height = _unpack(file, path, "<IiQQ")
    where = f"{path}, camera {number}"
    name = _known_model(where, NAMES.get(model, str(model)))
    values = np.array(_unpack(file, path, f"<{len(MODELS[name][1].split())}d"))
    return number, _camera(where, name, (width, height), values)


def _binary_image(file: BinaryIO, path: Path) -> Registered:
    number, *values, camera = _unpack(file, path, "<I7dI")
    name = bytearray()
    while (letter := file.read(1)) not in (b"\0", b""):
        name += letter
        if len(name) > MAX_NAME:
            break
    (points,) = _unpack(file, path, "<Q")
    file.seek(points * 24, os.SEEK_CUR)  # x y and the number of its point
    if file.tell() > os.fstat(file.fileno()).st_size:
        raise DatasetError(f"{path} ends within image {number}: expected {points} keypoints")
    text = name.decode(errors="replace")
    return Registered(text, camera, np.array(values), f"{path}, image {number}")


def _unpack(file: BinaryIO, path: Path, form: str) -> tuple[Any, ...]:
    """Read numbers (struct). Raises DatasetError at the end of the file."""
    data = file.read(struct.calcsize(form))
    if len(data) != struct.calcsize(form):
        raise DatasetError(
            f"{path} ends early: expected a file of COLMAP, as it writes binary ones"
        )
    return struct.unpack(form, data)
