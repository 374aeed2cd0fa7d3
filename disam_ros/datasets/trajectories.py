# SPDX-License-Identifier: Apache-2.0
"""Poses of a drive from a file, as SLAM systems, evo and GNSS post-processing write them.

TUM      lines `timestamp tx ty tz qx qy qz qw`, seconds; a ninth field (rtabmap's id) is not read
KITTI    lines of a matrix [3, 4] by rows; seconds are the lines of times.txt beside the file
EuRoC    `#timestamp…` header, then `timestamp,x,y,z,qw,qx,qy,qz…`, nanoseconds
table    comma-separated with a header: `stamp_ns` or seconds (`timestamp`, `time`), `latitude`,
         `longitude` and, where known, `altitude` and `heading` [deg] clockwise from north
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pymap3d
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.datasets.formats.foreign import pose_of_matrix, text_rows, to_floats
from disam_ros.datasets.formats.tum import nanoseconds
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.reading import MAX_WHOLE, read_lines
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import sort_by_stamp

logger = logging.getLogger(__name__)

POSE = "tx ty tz qx qy qz qw"
MATRIX = " ".join(f"m{row}{column}" for row in "123" for column in "1234")
TIMES = "times.txt"
# Names of a table's columns, in lower case.
SECONDS = ("timestamp", "time", "seconds", "stamp")
LATITUDE, LONGITUDE = ("latitude", "lat"), ("longitude", "lon", "lng")
ALTITUDE, HEADING = ("altitude", "alt", "height"), ("heading",)
STEP = 1.0  # metres travelled over which a direction of motion is taken
TILT = 20.0  # degrees between the vehicle's up and the map's beyond which the map is levelled
EXPECTED = (
    f"lines 'timestamp {POSE}' (TUM), 12 numbers of a matrix beside {TIMES} (KITTI), "
    "a EuRoC table, or a table with the columns timestamp, latitude and longitude"
)


@dataclass(frozen=True)
class Trajectory:
    """stamps: int64 [N] [ns], strictly increasing. poses: map_from_body [N]. origin: of the map
    frame on Earth, x east and y north; None: unknown."""

    stamps: NDArray[np.int64]
    poses: list[Transform]
    origin: Origin | None = None

    @property
    def identity(self) -> str:
        """Changes with every stamp and pose."""
        rows = np.array([[*p.translation, *p.quaternion] for p in self.poses])
        return hashlib.sha256(self.stamps.tobytes() + rows.tobytes()).hexdigest()

    def shifted(self, seconds: float) -> Trajectory:
        """The same poses, `seconds` later."""
        return replace(self, stamps=self.stamps + round(seconds * 1e9))

    def of_base(self, base_from_body: Transform) -> Trajectory:
        """map_from_base of poses of a body that is fixed to the vehicle, with z up."""
        body_from_base = base_from_body.inverse()
        moved = replace(self, poses=[pose @ body_from_base for pose in self.poses])
        return moved._levelled()

    def _levelled(self) -> Trajectory:
        """Turned so that the vehicle's mean up is the map's, where it is far from it."""
        up = np.mean([Rotation.from_quat(p.quaternion).apply([0, 0, 1]) for p in self.poses], 0)
        tilt = np.degrees(np.arccos(np.clip(up[2] / np.linalg.norm(up), -1, 1)))
        if not tilt > TILT:
            return self
        logger.warning(
            "the trajectory's z axis is %.0f° from the vehicle's up: the map gets z up",
            tilt,
        )
        turn, _ = Rotation.align_vectors([[0, 0, 1]], [up])
        level = Transform.from_rotation(np.zeros(3), turn.as_matrix())
        return replace(self, poses=[level @ pose for pose in self.poses], origin=None)


def read_trajectory(path: Path | str, origin: Origin | None = None) -> Trajectory:
    """The trajectory of a file in one of the formats above, recognized by its first lines.

    origin: of the map frame of a table of latitude and longitude; None: its first row. Without a
    heading, the vehicle faces where it drives. Raises DatasetError.
    """
    path = Path(path)
    first = next((line for line in read_lines(path, DatasetError) if line.strip()), "")
    if "," in first:
        read = _read_euroc if first.lstrip().startswith("#") else _read_table
        stamps, poses, place = read(path, origin)
    else:
        stamps, poses = _read_lines(path)
        place = None
    if len(set(stamps)) < 2:
        raise DatasetError(f"{path} holds {len(set(stamps))} poses; expected {EXPECTED}")
    return Trajectory(*sort_by_stamp(stamps, poses), place)


def _read_lines(path: Path) -> tuple[list[int], list[Transform]]:
    """TUM or KITTI, by the number of fields."""
    stamps, poses = [], []
    times: Iterator[tuple[str, list[str]]] | None = None
    for where, fields in text_rows(path):
        if len(fields) == 12:
            times = times or _times(path)
            stamp = next(times, (f"{path.parent / TIMES}, which has fewer lines", [""]))
            stamps.append(nanoseconds(stamp[0], stamp[1][0]))
            poses.append(pose_of_matrix(where, to_floats(where, fields, MATRIX).reshape(3, 4)))
        elif len(fields) in (8, 9):
            stamps.append(nanoseconds(where, fields[0]))
            poses.append(_pose(where, to_floats(where, fields[1:8], POSE)))
        else:
            raise DatasetError(f"{where}: {len(fields)} fields; expected {EXPECTED}")
    return stamps, poses


def _times(path: Path) -> Iterator[tuple[str, list[str]]]:
    times = path.parent / TIMES
    if not times.is_file():
        raise DatasetError(f"{path} has matrices without times: expected {times}, seconds by line")
    return text_rows(times)


def _read_euroc(path: Path, _: Origin | None) -> tuple[list[int], list[Transform], None]:
    stamps, poses = [], []
    for number, line in enumerate(read_lines(path, DatasetError), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where, fields = f"{path} line {number}", line.split(",")
        w_first = to_floats(where, fields[1:8], "x y z qw qx qy qz")
        stamps.append(_whole(where, fields[0]))
        poses.append(_pose(where, w_first[[0, 1, 2, 4, 5, 6, 3]]))
    return stamps, poses, None


def _read_table(
    path: Path, origin: Origin | None
) -> tuple[list[int], list[Transform], Origin | None]:
    table = csv.DictReader(read_lines(path, DatasetError), skipinitialspace=True)
    names = {(name or "").strip().lower(): name for name in table.fieldnames or ()}

    def column(*known: str) -> str | None:
        return next((names[name] for name in known if name in names), None)

    exact, seconds = column("stamp_ns"), column(*SECONDS)
    latitude, longitude = column(*LATITUDE), column(*LONGITUDE)
    altitude, heading = column(*ALTITUDE), column(*HEADING)
    if latitude is None or longitude is None or not (exact or seconds):
        raise DatasetError(f"{path} has the columns {', '.join(names)}; expected {EXPECTED}")
    chosen = [c for c in (latitude, longitude, altitude, heading) if c]
    stamps: list[int] = []
    rows: list[NDArray[np.float64]] = []
    try:
        for row in table:
            where = f"{path} line {table.line_num}"
            rows.append(to_floats(where, [row[c] or "" for c in chosen], " ".join(chosen)))
            when = (row[exact or seconds or ""] or "").strip()
            stamps.append(_whole(where, when) if exact else nanoseconds(where, when))
    except csv.Error as error:
        raise DatasetError(f"{path} line {table.line_num + 1} is malformed: {error}") from error
    if not rows:
        return [], [], None
    values = np.stack(rows)
    order = np.argsort(stamps, kind="stable")
    values, stamps = values[order], np.array(stamps)[order].tolist()
    degrees = values[:, :2]
    if not (np.abs(degrees) <= (90, 180)).all():
        raise DatasetError(f"{path}: expected latitude and longitude in degrees")
    origin = origin or Origin(*map(float, degrees[0]))
    heights = values[:, 2] if altitude else np.zeros(len(values))
    here = (origin.latitude, origin.longitude, heights[0])
    points = np.stack(pymap3d.geodetic2enu(*degrees.T, heights, *here), 1)
    points[:, :2] = points[:, :2] @ origin.enu_from_map
    if heading:
        yaws = np.pi / 2 - np.radians(values[:, -1]) - origin.yaw
    else:
        yaws = _yaws_of_motion(path, points)
    turns = Rotation.from_euler("z", yaws[:, None]).as_quat()
    return stamps, [Transform(p, q) for p, q in zip(points, turns, strict=True)], origin


def _yaws_of_motion(path: Path, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction of the motion around each point [N, 3], counter-clockwise from x [rad]; that before
    where the vehicle stands."""
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    # Noise of a vehicle that stands adds up to a way, but not to a distance.
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    ahead = np.searchsorted(travelled, travelled + STEP / 2).clip(max=len(points) - 1)
    behind = np.searchsorted(travelled, travelled - STEP / 2, side="right").clip(1) - 1
    motion = points[ahead, :2] - points[behind, :2]
    moves = np.linalg.norm(motion, axis=1) > STEP / 2
    if not moves.any():
        raise DatasetError(f"{path}: the vehicle does not move; give a column heading [deg]")
    last = np.maximum.accumulate(np.where(moves, np.arange(len(points)), np.argmax(moves)))
    return np.arctan2(motion[last, 1], motion[last, 0])


def _pose(where: str, values: NDArray[np.float64]) -> Transform:
    try:
        return Transform(values[:3], values[3:])
    except GeometryError as error:
        raise DatasetError(f"{where}: {error}") from error


def _whole(where: str, text: str) -> int:
    """Nanoseconds. Raises DatasetError."""
    if not (text.strip().isdecimal() and len(text) < 20 and int(text) < MAX_WHOLE):
        raise DatasetError(f"{where}: expected whole nanoseconds, got '{text:.40}'")
    return int(text)
