# SPDX-License-Identifier: Apache-2.0
"""Databases of rtabmap 0.18 and newer: the images of its nodes at their optimized poses.

rtabmap's DBDriverSqlite3, CameraModel and StereoCameraModel write them: an image is JPEG or PNG,
several cameras side by side; a calibration is its serialized models, with base_from_camera of the
optical frame; the optimized poses, map_from_base, are of the last clean end of rtabmap.

A database from elsewhere is no data but a program: it is read by scans of plain tables alone, whose
rows come here one by one, so that nothing runs without end in SQLite, where no signal is heard.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import FISHEYE, PINHOLE, Camera
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.foreign import (
    ForeignDataset,
    ForeignImage,
    Format,
    domain_setting,
)
from disam_ros.datasets.text_rows import located, pose_of_matrix
from disam_ros.errors import DatasetError, ImageError
from disam_ros.geometry import Transform
from disam_ros.image import decode
from disam_ros.pose_buffer import NANOSECONDS

OLDEST = 0, 18  # version whose calibrations are serialized models
MONO, STEREO = 0, 1
INT32, FLOAT32 = 4, 5  # types of OpenCV's matrices
FISHEYE_COUNT = 6  # coefficients of rtabmap's fisheye: k1 k2 0 0 k3 k4
MAX_NODES = 1_000_000
LARGEST = 1 << 26  # a value of a database [bytes]
MAX_CAMERAS = 16
TABLES = ("Node", "Data", "Admin")


@dataclass(frozen=True)
class Rtabmap(Format):
    """The images of the nodes of a database, in the order of their stamps."""

    TITLE: ClassVar[str] = "a database of rtabmap with its optimized poses"
    domain: str = domain_setting()

    def _read(self, path: Path) -> ForeignDataset:
        """Read the images; without a pose where the graph that was optimized last lacks the node.

        Raises DatasetError.
        """
        if not path.is_file():
            raise DatasetError(
                f"{path} not found: expected a database of rtabmap, such as rtabmap.db"
            )
        try:
            with closing(_open(path)) as database:
                _check_version(path, database)
                poses = _optimized_poses(path, database)
                shots = _shots(path, database)
        except sqlite3.Error as error:
            raise DatasetError(f"{path} is no database of rtabmap: {error}") from error
        names = _camera_names([shot.camera for shot in shots])
        images, sources = [], {}
        for shot in shots:
            matrix = poses.get(shot.node)
            where = f"{path}: optimized pose of node {shot.node}"
            base = None if matrix is None else pose_of_matrix(where, matrix)
            source = f"node {shot.node}" + (f", camera {shot.part}" if shot.parts > 1 else "")
            sources[source] = shot
            pose, name = base and base @ shot.camera.base_from_camera, names[shot.camera]
            images.append(ForeignImage(shot.stamp_ns, name, self.domain, source, pose))
        if not any(image.map_from_camera for image in images):
            raise DatasetError(
                f"{path}: no image belongs to the graph that was optimized last: "
                f"{len(images)} images, {len(poses)} poses"
            )
        images.sort(key=lambda image: image.stamp_ns)
        cameras = {name: camera for camera, name in names.items()}
        info = DatasetInfo(path.stem, cameras, origin=f"rtabmap {path.name}")
        return ForeignDataset(path, info, images, _pixels(path, sources))


@dataclass(frozen=True)
class _Shot:
    """The image of one camera of a node."""

    node: int
    row: int  # of the table Data
    stamp_ns: int
    camera: Camera
    part: int  # position among the images side by side, from 0
    parts: int  # number of images side by side


def _open(path: Path) -> sqlite3.Connection:
    """Open a database for reading: one that a running rtabmap writes to stays as it is.

    Only the columns of plain tables can be read. Raises DatasetError for others.
    """
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        if sys.version_info >= (3, 11):
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
        for table in TABLES:
            if any(column[6] for column in database.execute(f"PRAGMA table_xinfo({table})")):
                raise DatasetError(f"{path}: '{table}' is no plain table, as rtabmap makes them")
    except BaseException:
        database.close()
        raise
    database.set_authorizer(_allow)
    return database


def _allow(action: int, first: str | None, second: str | None, *names: str | None) -> int:
    """Decide what a statement may do: select columns of tables, and the function length."""
    is_inner = names[1] is not None  # of a view or trigger
    is_read = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
    is_length = action == sqlite3.SQLITE_FUNCTION and second == "length"
    return sqlite3.SQLITE_OK if not is_inner and (is_read or is_length) else sqlite3.SQLITE_DENY


def _scan(path: Path, database: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """Read the rows of a table by the whole number in their first column, which no other has.

    Raises DatasetError.
    """
    ids: set[int] = set()
    for row in database.execute(sql):
        if not isinstance(row[0], int) or row[0] in ids or len(ids) == MAX_NODES:
            raise DatasetError(
                f"{path}: expected up to {MAX_NODES} nodes, each with an id of its own, got "
                f"{row[0]!r} after {len(ids)} of them"
            )
        ids.add(row[0])
        yield row


def _check_version(path: Path, database: sqlite3.Connection) -> None:
    """Raise DatasetError for a version whose calibrations are stored otherwise."""
    row = database.execute("SELECT version FROM Admin").fetchone()
    numbers = str(row[0]).split(".") if row else []
    if len(numbers) < 2 or not all(number.isdecimal() for number in numbers):
        raise DatasetError(f"{path}: expected the version of rtabmap, got {row and row[0]!r}")
    if tuple(map(int, numbers[:2])) < OLDEST:
        raise DatasetError(
            f"{path} is of rtabmap {row[0]}, older than {OLDEST[0]}.{OLDEST[1]}: convert it with "
            f"`rtabmap-reprocess` of a newer one"
        )


def _optimized_poses(path: Path, database: sqlite3.Connection) -> dict[int, NDArray[np.float64]]:
    """Read map_from_base [3, 4] by node. Raises DatasetError."""
    row = database.execute("SELECT opt_ids, opt_poses FROM Admin").fetchone()
    ids, poses = row or (None, None)
    if not ids or not poses:
        raise DatasetError(
            f"{path} has no optimized poses: rtabmap stores them when it ends; where it was "
            f"killed, run `rtabmap-reprocess`, or save the graph in rtabmap-databaseViewer"
        )
    numbers = _matrix(path, "opt_ids", ids, INT32)
    values = _matrix(path, "opt_poses", poses, FLOAT32).astype(np.float64)
    if len(values) != 12 * len(numbers):
        raise DatasetError(
            f"{path}: opt_poses holds {len(values)} numbers, expected 12 for each of "
            f"{len(numbers)} nodes"
        )
    return dict(zip(numbers.tolist(), values.reshape(-1, 3, 4), strict=True))


def _matrix(path: Path, name: str, data: object, kind: int) -> NDArray[Any]:
    """Unpack a matrix [N]: rtabmap writes zlib, then rows, columns and OpenCV's type."""
    if not isinstance(data, bytes):
        raise DatasetError(f"{path}: {name} is damaged: expected bytes, got {type(data).__name__}")
    try:
        rows, columns, stored = struct.unpack("<3i", data[-12:])
        count = rows * columns
        if stored != kind or not 0 <= count <= 12 * MAX_NODES:
            raise ValueError(f"{rows}x{columns} of type {stored}")
        raw = zlib.decompressobj().decompress(data[:-12], 4 * count + 1)
        if len(raw) != 4 * count:
            raise ValueError(f"{len(raw)} bytes for {count} numbers")
    except (struct.error, zlib.error, ValueError) as error:
        raise DatasetError(f"{path}: {name} is damaged: {error}") from error
    return np.frombuffer(raw, "<i4" if kind == INT32 else "<f4")


def _shots(path: Path, database: sqlite3.Connection) -> list[_Shot]:
    """Read the shots of the nodes that have an image; intermediate nodes have none."""
    stamps = dict(_scan(path, database, "SELECT id, stamp FROM Node"))
    sql = "SELECT id, rowid, length(image), calibration FROM Data"
    shots = []
    for node, row, length, calibration in _scan(path, database, sql):
        if not length or node not in stamps:
            continue
        where, stamp = f"{path}, node {node}", stamps[node]
        if not isinstance(stamp, float) or not 0.0 <= stamp < 1e10:
            raise DatasetError(f"{where}: expected a stamp in seconds, got {stamp!r}")
        cameras = _cameras(where, calibration)
        for part, camera in enumerate(cameras):
            shots.append(_Shot(node, row, round(stamp * NANOSECONDS), camera, part, len(cameras)))
    return sorted(shots, key=lambda shot: (shot.node, shot.part))


def _cameras(where: str, data: object) -> list[Camera]:
    """Read the cameras whose images are in Data.image, from left to right: of a stereo camera the
    left one. Raises DatasetError where there is none."""
    if not isinstance(data, bytes) or not data:
        raise DatasetError(f"{where}: its image has no calibration, so its size is not known")
    cameras: list[Camera] = []
    try:
        while data:
            if len(cameras) == MAX_CAMERAS:
                raise ValueError(f"it has more than {MAX_CAMERAS} cameras")
            kind = struct.unpack_from("<4i", data)[3]
            if kind == STEREO:
                *counts, left, right = struct.unpack_from("<6i", data, 16)
                start = 40 + 8 * sum(counts)
                cameras.append(_camera(where, data[start : start + left])[0])
                data = _after(data, start + left + right)
            elif kind == MONO:
                camera, size = _camera(where, data)
                cameras.append(camera)
                data = _after(data, size)
            else:
                raise ValueError(f"unknown type {kind}")
    except (struct.error, ValueError) as error:
        raise DatasetError(f"{where}: its calibration is damaged: {error}") from error
    return cameras


def _after(data: bytes, size: int) -> bytes:
    """Cut off the first `size` bytes. Raises ValueError where there are fewer."""
    if not 0 < size <= len(data):
        raise ValueError(f"expected {size} bytes, got {len(data)}")
    return data[size:]


def _camera(where: str, data: bytes) -> tuple[Camera, int]:
    """Read a serialized CameraModel and its size [bytes]."""
    width, height, *counts, mount = struct.unpack_from("<7i", data, 16)
    doubles = np.array(struct.unpack_from(f"<{sum(counts)}d", data, 44))
    size = 44 + doubles.nbytes
    pose = np.array(struct.unpack_from(f"<{mount}f", data, size), np.float64)
    matrix, lens, _, projection = np.split(doubles, np.cumsum(counts)[:3])
    if mount not in (0, 12) or len(matrix) not in (0, 9) or len(projection) not in (0, 12):
        raise ValueError(f"matrices of {counts} and {mount} numbers")
    base = Transform.identity() if not mount else pose_of_matrix(where, pose.reshape(3, 4))
    matrix = matrix.reshape(3, 3) if len(matrix) else projection.reshape(-1, 4)[:, :3]
    if not len(matrix) or matrix[0, 0] <= 0:
        unknown = Camera(width, height, 0.0, 0.0, 0.0, 0.0, base_from_camera=base)
        return unknown, size + 4 * mount
    fisheye = len(lens) == FISHEYE_COUNT
    numbers = lens[[0, 1, 4, 5]] if fisheye else lens
    distortion = tuple(numbers.tolist()) if fisheye or numbers.any() else ()
    fx, fy, cx, cy = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    model = FISHEYE if fisheye else PINHOLE
    camera = Camera(width, height, fx, fy, cx, cy, distortion, base, model)
    with located(where):
        camera.check()
    return camera, size + 4 * mount


def _camera_names(cameras: list[Camera]) -> dict[Camera, str]:
    """A name for each calibration, in the order of their first images."""
    different = list(dict.fromkeys(cameras))
    if len(different) > MAX_CAMERAS:
        raise DatasetError(
            f"expected at most {MAX_CAMERAS} different calibrations, got {len(different)}: is a "
            f"camera on a moving mount? Export its images and poses with `rtabmap-export`"
        )
    if len(different) == 1:
        return {different[0]: "front"}
    return {camera: f"camera{number}" for number, camera in enumerate(different)}


def _pixels(path: Path, sources: dict[str, _Shot]) -> Callable[[ForeignImage], NDArray[np.uint8]]:
    """Make the reader of images. sources: shots by the images' names."""

    def pixels(item: ForeignImage) -> NDArray[np.uint8]:
        shot, what = sources[item.source], f"{path}, {item.source}"
        try:
            with closing(_open(path)) as database:
                row = database.execute(
                    "SELECT image FROM Data WHERE rowid = ?", (shot.row,)
                ).fetchone()
        except sqlite3.Error as error:
            raise ImageError(f"{what} cannot be read: {error}") from error
        data = row[0] if row else None
        if not isinstance(data, bytes):
            raise ImageError(f"{what} cannot be read: expected bytes, got {type(data).__name__}")
        image = decode(data, what, whole=True)
        height, width = image.shape[:2]
        expected = shot.camera.width * shot.parts, shot.camera.height
        if (width, height) != expected:
            raise DatasetError(
                f"{what} has {width}x{height} pixels, its calibration {expected[0]}x{expected[1]}"
            )
        first = shot.part * shot.camera.width
        return image[:, first : first + shot.camera.width]

    return pixels
