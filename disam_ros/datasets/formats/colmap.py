# SPDX-License-Identifier: Apache-2.0
"""Sparse models of COLMAP: `cameras` and `images`, as text or binary.

As COLMAP's reconstruction_io_text.cc and reconstruction_io_binary.cc read and write them: poses
are camera_from_world, quaternions w first, optical axes; the first pixel's centre is at 0.5.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pymap3d
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.formats.exif import Exif, read_exif, stamps_of
from disam_ros.datasets.formats.foreign import LOOKS_AHEAD, ForeignDataset
from disam_ros.datasets.text_rows import text_rows, to_floats
from disam_ros.datasets.trajectories.trajectory import levelling
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.reading import read_lines, reading
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform

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
    """An image of a model. camera_from_world: w x y z tx ty tz, float64 [7]."""

    name: str
    camera: int
    camera_from_world: NDArray[np.float64]
    where: str  # in the files, for errors

    @property
    def world_from_camera(self) -> Transform:
        w, x, y, z, *shift = self.camera_from_world
        try:
            return Transform(np.array(shift), np.array([x, y, z, w])).inverse()
        except GeometryError as error:
            raise DatasetError(f"{self.where}: {error}") from error


def read(
    directory: Path | str,
    *,
    domain: str,
    images: str = "images",
    model: str = "",
    scale: float = 0.0,
    georegister: bool = False,
) -> ForeignDataset:
    """The registered images of a project, in the order of their names.

    images, model: folders in `directory`; default of the latter: sparse/0, sparse or the directory
    itself. A model has no unit of length: scale, in metres per unit, or georegister, by the
    places in the images' EXIF, gives it one; a model in Earth-centred metres needs neither. The map
    gets z up. Raises DatasetError.
    """
    directory = Path(directory)
    folder = _model_folder(directory, model)
    cameras, listed = read_model(folder)
    found = sorted(
        (image for image in listed if (directory / images / image.name).is_file()),
        key=lambda image: image.name,
    )
    if not found:
        first = f"{directory / images / listed[0].name} not found" if listed else "it has no images"
        raise DatasetError(f"{folder}: {first}; expected its images in {directory / images}")
    files = [directory / images / image.name for image in found]
    exifs = [read_exif(path) for path in files]
    poses, origin = _metric(
        folder, [image.world_from_camera for image in found], exifs, scale, georegister
    )
    names = _camera_names(cameras, found)
    records = [
        ImageRecord(0, stamp, names[image.camera], domain, os.path.relpath(path, directory), pose)
        for image, path, pose, stamp in zip(
            found, files, poses, stamps_of(files, exifs), strict=True
        )
    ]
    info = DatasetInfo(
        directory.resolve().name,
        {name: cameras[number] for number, name in names.items()},
        latitude=None if origin is None else origin.latitude,
        longitude=None if origin is None else origin.longitude,
        origin=f"COLMAP {folder.name}",
    )
    return ForeignDataset(directory, info, sorted(records, key=lambda record: record.stamp_ns))


def read_model(folder: Path) -> tuple[dict[int, Camera], list[Registered]]:
    """Cameras by number, and images of a model, binary if there is both. Raises DatasetError."""
    if (folder / "images.bin").is_file():
        cameras = _counted(folder / "cameras.bin", _binary_camera)
        return dict(cameras), list(_counted(folder / "images.bin", _binary_image))
    return dict(_text_cameras(folder / "cameras.txt")), list(_text_images(folder / "images.txt"))


def _model_folder(directory: Path, model: str) -> Path:
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
    given = dict(zip(MODELS[model][1].split(), values.tolist(), strict=True))
    distortion = tuple(given.get(name, 0.0) for name in DISTORTION)
    if not any(distortion[4:]):
        distortion = distortion[:4]
    camera = Camera(
        *size,
        given.get("fx", given.get("f", 0.0)),
        given.get("fy", given.get("f", 0.0)),
        given["cx"] - 0.5,
        given["cy"] - 0.5,
        distortion if any(distortion) else (),
        LOOKS_AHEAD,
    )
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
    """Two lines each: pose, camera and name, then keypoints, which may be none."""
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


def _counted(path: Path, read_one) -> Iterator:  # noqa: ANN001
    """What a binary file holds, its number first."""
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


def _unpack(file: BinaryIO, path: Path, form: str) -> tuple:
    data = file.read(struct.calcsize(form))
    if len(data) != struct.calcsize(form):
        raise DatasetError(
            f"{path} ends early: expected a file of COLMAP, as it writes binary ones"
        )
    return struct.unpack(form, data)


def _camera_names(cameras: dict[int, Camera], images: list[Registered]) -> dict[int, str]:
    """Number of a camera → its name in the dataset; those of the same intrinsics are one."""
    used = sorted({image.camera for image in images})
    if unknown := set(used) - set(cameras):
        raise DatasetError(f"the images are of camera {min(unknown)}, which cameras lacks")
    alike: dict[str, str] = {}
    for number in used:
        alike.setdefault(str(cameras[number].to_json()), f"camera{number}")
    if len(alike) == 1:
        return dict.fromkeys(used, "front")
    return {number: alike[str(cameras[number].to_json())] for number in used}


def _metric(
    folder: Path,
    poses: list[Transform],
    exifs: list[Exif],
    scale: float,
    georegister: bool,
) -> tuple[list[Transform], Origin | None]:
    """map_from_camera in metres with z up, and where the map lies on Earth if that is known."""
    centers = np.stack([pose.translation for pose in poses])
    low, high = EARTH
    if ((np.linalg.norm(centers, axis=1) > low) & (np.linalg.norm(centers, axis=1) < high)).all():
        return _from_earth(poses)
    if scale and georegister:
        raise DatasetError("--scale and --georegister exclude each other: drop one")
    if not scale and not georegister:
        raise DatasetError(
            f"{folder} has no unit of length, as COLMAP finds none in images: give --scale METRES "
            f"per unit (1 for a model aligned to metres), or --georegister if the images' EXIF has "
            f"places, or align it with `colmap model_aligner --ref_is_gps 1`"
        )
    level = levelling([pose @ LOOKS_AHEAD.inverse() for pose in poses]) or Transform.identity()
    poses = [level @ pose for pose in poses]
    if scale:
        return [Transform(pose.translation * scale, pose.quaternion) for pose in poses], None
    return _registered(folder, poses, exifs)


def _from_earth(poses: list[Transform]) -> tuple[list[Transform], Origin]:
    """Poses in Earth-centred axes → east, north, up of the first."""
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


def _registered(
    folder: Path, poses: list[Transform], exifs: list[Exif]
) -> tuple[list[Transform], Origin]:
    """Levelled poses by the places of their photos: scale, yaw and shift by RANSAC."""
    rows = [row for row, exif in enumerate(exifs) if exif.placed]
    if len(rows) < 3:
        raise DatasetError(
            f"{len(rows)} of {len(exifs)} images have a place in their EXIF, expected 3 or more: "
            f"give --scale METRES per unit"
        )
    places = [(exifs[row].latitude or 0.0, exifs[row].longitude or 0.0) for row in rows]
    origin = Origin(*places[0])
    there = np.stack([origin.to_enu(*place)[:2] for place in places])
    here = np.stack([poses[row].translation[:2] for row in rows])
    similarity, inliers = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=GPS_ERROR, confidence=0.999
    )
    agree = 0 if similarity is None else int(inliers.sum())
    extent = float(np.ptp(there, axis=0).max())
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
