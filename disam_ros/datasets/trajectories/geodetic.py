# SPDX-License-Identifier: Apache-2.0
"""Trajectories in latitude and longitude."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pymap3d
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.datasets.text_rows import located, to_floats
from disam_ros.datasets.trajectories.columns import header_names, time_columns
from disam_ros.datasets.trajectories.text import EXPECTED
from disam_ros.datasets.trajectories.times import to_stamps
from disam_ros.errors import DatasetError
from disam_ros.files.reading import read_lines
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.plausibility import plausible_rows

logger = logging.getLogger(__name__)

# Names of a table's columns, in lower case.
LATITUDE, LONGITUDE = ("latitude", "lat"), ("longitude", "lon", "lng")
ALTITUDE, HEADING = ("altitude", "alt", "height"), ("heading",)
STEP = 1.0  # distance travelled over which a direction of motion is taken [m]

# Stamps [N] [ns], poses [N] in metres east and north of an origin, and that origin.
GeodeticPoses = tuple[list[int], list[Transform], Origin | None]


def read_table(path: Path, origin: Origin | None) -> GeodeticPoses:
    """Read a table of latitude and longitude. origin: of the metres; None: the first row.

    Raises DatasetError.
    """
    table = csv.DictReader(read_lines(path, DatasetError), skipinitialspace=True)
    fields = [name or "" for name in table.fieldnames or ()]
    plain, units = header_names(",".join(fields))
    names = dict(zip(plain, fields, strict=False))
    time, unit = time_columns(plain, units)

    def column(*choices: str) -> str | None:
        return next((names[name] for name in choices if name in names), None)

    latitude, longitude = column(*LATITUDE), column(*LONGITUDE)
    altitude, heading = column(*ALTITUDE), column(*HEADING)
    if latitude is None or longitude is None or not time:
        raise DatasetError(f"{path} has the columns {', '.join(names)}; expected {EXPECTED}")
    chosen = [c for c in (latitude, longitude, altitude, heading) if c]
    expected = " ".join(c.split()[0] for c in chosen)  # without units
    cells: list[tuple[str, list[str]]] = []
    rows: list[NDArray[np.float64]] = []
    left_out = 0
    try:
        for row in table:
            where = f"{path} line {table.line_num}"
            values = to_floats(where, [row[c] or "" for c in chosen], expected)
            if not values[:2].any():  # of a receiver without a fix
                left_out += 1
                continue
            rows.append(values)
            cells.append((where, [(row[fields[place]] or "").strip() for place in time]))
    except csv.Error as error:
        raise DatasetError(f"{path} line {table.line_num + 1} is malformed: {error}") from error
    if left_out:
        logger.warning("%s: %d rows at 0, 0 left out: they are no fixes", path, left_out)
    if not rows:
        return [], [], None
    stamps, values = to_stamps(path, cells, unit), np.stack(rows)
    heights = values[:, 2] if altitude else np.zeros(len(values))
    headings = values[:, -1] if heading else None
    return local_poses(path, stamps, values[:, :2], heights, origin, headings)


def local_poses(
    path: Path,
    stamps: Sequence[int],
    degrees: NDArray[np.float64],
    heights: NDArray[np.float64],
    origin: Origin | None,
    headings: NDArray[np.float64] | None = None,
    keeps_all: bool = False,
) -> GeodeticPoses:
    """Make poses of latitudes and longitudes [N, 2] [deg], heights [N] [m] and headings [N] [deg].

    Without headings the vehicle faces where it drives. origin: of the metres; None: the first
    place. keeps_all: also fixes where no vehicle was. Raises DatasetError, naming `path`.
    """
    if not (np.abs(degrees) <= (90, 180)).all():
        raise DatasetError(f"{path}: expected latitude and longitude in degrees")
    order = np.argsort(stamps, kind="stable")
    if not keeps_all:
        order = order[_plausible(path, stamps, degrees, heights, order)]
    times, degrees, heights = np.asarray(stamps, np.int64)[order], degrees[order], heights[order]
    place = origin or Origin(*map(float, degrees[0]))
    points = place.to_map(degrees, heights)
    if headings is not None:
        yaws = np.pi / 2 - np.radians(headings[order]) - place.yaw
    else:
        yaws = _yaws_of_motion(path, points)
    turns = Rotation.from_euler("z", yaws[:, None]).as_quat()
    with located(str(path)):
        poses = [Transform(p, q) for p, q in zip(points, turns, strict=True)]
    return times.tolist(), poses, place


def _plausible(
    path: Path,
    stamps: Sequence[int],
    degrees: NDArray[np.float64],
    heights: NDArray[np.float64],
    order: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Places in `order` of the fixes where a vehicle can have been; the others are logged."""
    middle = degrees[np.argmin(np.linalg.norm(degrees - np.median(degrees, axis=0), axis=1))]
    points = np.stack(pymap3d.geodetic2enu(*degrees.T, heights, *middle, np.median(heights)), 1)
    rows, text = plausible_rows(np.asarray(stamps, np.int64)[order], points[order])
    if len(rows) < len(points):
        logger.warning("%s: %s", path, text)
    return rows


def _yaws_of_motion(path: Path, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction of the motion around each point [N, 3], counter-clockwise from x [rad].

    Where the vehicle stands it is the direction before. Raises DatasetError.
    """
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
    return np.asarray(np.arctan2(motion[last, 1], motion[last, 0]), np.float64)
