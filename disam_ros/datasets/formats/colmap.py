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

import cv2
import numpy as np
import pymap3d
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.alike import merge_alike, name_cameras
from disam_ros.datasets.formats.exif import Exif, read_exif, stamps_of
from disam_ros.datasets.formats.foreign import (
    LOOKS_AHEAD,
    ForeignDataset,
    ForeignImage,
    Format,
    domain_setting,
)
from disam_ros.datasets.text_rows import text_rows, to_floats
from disam_ros.datasets.trajectories.trajectory import levelling
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.reading import read_lines, reading
from disam_ros.geodesy import Origin
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
    "FULL_OPENCV": (6, "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
}
NAMES = {number: name for name, (number, _) in MODELS.items()}
DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
EARTH = 6.3e6, 6.4e6  # m from the Earth's centre, of a place on it
GPS_ERROR = 5.0  # m of a photo's place that the registration to it tolerates
LEAST = 0.5  # share of the photos with a place that have to agree with it
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
        try:
            return Transform(np.array(shift), np.array([x, y, z, w])).inverse()
        except GeometryError as error:
            raise DatasetError(f"{self.where}: {error}") from error


@dataclass(frozen=True)
class Colmap(Format):
    """The registered images of a project, in a map with z up.

    A model has no unit of length: scale, or georegister, gives it one; a model in Earth-centred
    metres needs neither.
    """

    TITLE: ClassVar = "images with a sparse model of COLMAP"
    domain: str = domain_setting()
    images: str = setting("images", "folder of the images in the input directory")
    model: str = setting(
        "", "folder of the model in the input directory; default: sparse/0 or sparse"
    )
    scale: float = setting(
        0.0,
        "metres per unit of the model; default: a model in Earth-centred metres",
        minimum=0.0,
        maximum=1e6,
    )
    georegister: bool = setting(
        False, "find scale, heading and place by the GPS positions in the images' EXIF"
    )

    def read(self, path: Path | str) -> ForeignDataset:
        """Read the images in the order of their stamps. Raises DatasetError."""
        directory = Path(path)
        folder = _model_folder(directory, self.model)
        cameras, registered = read_model(folder)
        files = {item.name: directory / self.images / item.name for item in registered}
        stored = [item for item in registered if files[item.name].is_file()]
        if not stored:
            first = f"{files[registered[0].name]} not found" if registered else "it has no images"
            raise DatasetError(
                f"{folder}: {first}; expected its images in {directory / self.images}"
            )
        stored.sort(key=lambda item: item.name)
        paths = [files[item.name] for item in stored]
        exifs = [read_exif(file) for file in paths]
        poses = [item.world_from_camera for item in stored]
        poses, origin = self._metric(folder, poses, exifs)
        if unknown := {item.camera for item in stored} - set(cameras):
            raise DatasetError(f"the images are of camera {min(unknown)}, which cameras lacks")
        published = [cameras[item.camera] for item in stored]
        lenses = merge_alike(published, str(folder))
        names = name_cameras(lenses)
        images = [
            ForeignImage(
                stamp,
                names[lens],
                self.domain,
                os.path.relpath(file, directory),
                pose,
                size=(camera.width, camera.height),
            )
            for camera, lens, file, pose, stamp in zip(
                published, lenses, paths, poses, stamps_of(paths, exifs), strict=True
            )
        ]
        info = DatasetInfo(
            directory.resolve().name,
            {name: lens for lens, name in names.items()},
            latitude=None if origin is None else origin.latitude,
            longitude=None if origin is None else origin.longitude,
            origin=f"COLMAP {folder.name}",
        )
        return ForeignDataset(directory, info, sorted(images, key=lambda image: image.stamp_ns))

    def _metric(
        self, folder: Path, poses: list[Transform], exifs: list[Exif]
    ) -> tuple[list[Transform], Origin | None]:
        """Return map_from_camera in metres with z up, and the map's place on Earth if known."""
        distances = np.linalg.norm([pose.translation for pose in poses], axis=1)
        if ((distances > EARTH[0]) & (distances < EARTH[1])).all():
            return _from_earth(poses)
        if self.scale and self.georegister:
            raise DatasetError("--scale and --georegister exclude each other: drop one")
        if not self.scale and not self.georegister:
            raise DatasetError(
                f"{folder} has no unit of length, as COLMAP finds none in images: give --scale "
                f"METRES per unit (1 for a model aligned to metres), or --georegister if the "
                f"images' EXIF has places, or align it with `colmap model_aligner --ref_is_gps 1`"
            )
        level = levelling([pose @ LOOKS_AHEAD.inverse() for pose in poses])
        poses = [(level or Transform.identity()) @ pose for pose in poses]
        if not self.scale:
            return _georegistered(folder, poses, exifs)
        return [Transform(p.translation * self.scale, p.quaternion) for p in poses], None


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
    distortion = tuple(parameters.get(name, 0.0) for name in DISTORTION)
    if not any(distortion[4:]):
        distortion = distortion[:4]
    focal = parameters.get("f", 0.0)
    fx, fy = parameters.get("fx", focal), parameters.get("fy", focal)
    cx, cy = parameters["cx"] - 0.5, parameters["cy"] - 0.5
    distortion = distortion if any(distortion) else ()
    camera = Camera(*size, fx, fy, cx, cy, distortion, LOOKS_AHEAD)
    try:
        camera.check()
    except GeometryError as error:
        raise DatasetError(f"{where}: {error}") from error
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


def _from_earth(poses: list[Transform]) -> tuple[list[Transform], Origin]:
    """Turn poses in Earth-centred axes into east, north, up of the first."""
    latitude, longitude, height = pymap3d.ecef2geodetic(*poses[0].translation)
    axes = np.stack([pymap3d.ecef2enuv(*axis, latitude, longitude) for axis in np.eye(3)], axis=1)
    turn = Transform.from_rotation(np.zeros(3), axes)
    moved = [
        Transform(
            np.array(pymap3d.ecef2enu(*pose.translation, latitude, longitude, height)),
            (turn @ pose).quaternion,
        )
        for pose in poses
    ]
    return moved, Origin(float(latitude), float(longitude))


def _georegistered(
    folder: Path, poses: list[Transform], exifs: list[Exif]
) -> tuple[list[Transform], Origin]:
    """Register levelled poses to the places of their photos: scale, yaw and shift by RANSAC."""
    rows = [row for row, exif in enumerate(exifs) if exif.placed]
    if len(rows) < 3:
        raise DatasetError(
            f"{len(rows)} of {len(exifs)} images have a place in their EXIF, expected 3 or more: "
            f"give --scale METRES per unit"
        )
    places = [(exifs[row].latitude or 0.0, exifs[row].longitude or 0.0) for row in rows]
    origin = Origin(*places[0])
    targets = np.stack([origin.to_enu(*place)[:2] for place in places])
    points = np.stack([poses[row].translation[:2] for row in rows])
    similarity, inliers = cv2.estimateAffinePartial2D(
        points, targets, method=cv2.RANSAC, ransacReprojThreshold=GPS_ERROR, confidence=0.999
    )
    agree = 0 if similarity is None else int(inliers.sum())
    extent = float(np.ptp(targets, axis=0).max())
    if agree < LEAST * len(rows) or extent < 4 * GPS_ERROR:
        raise DatasetError(
            f"{folder}: the places of {agree} of {len(rows)} images agree with the model to "
            f"{GPS_ERROR:g} m, over {extent:.0f} m; expected {LEAST:.0%} of them and "
            f"{4 * GPS_ERROR:g} m: give --scale METRES per unit"
        )
    scale = float(np.hypot(*similarity[:, 0]))
    yaw = float(np.arctan2(similarity[1, 0], similarity[0, 0]))
    turn = Transform.from_xyz_rpy([*similarity[:, 2], 0, 0, 0, yaw])
    height = poses[0].translation[2]
    return [
        turn @ Transform((pose.translation - [0, 0, height]) * scale, pose.quaternion)
        for pose in poses
    ], origin
