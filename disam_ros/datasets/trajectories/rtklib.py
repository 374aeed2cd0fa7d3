# SPDX-License-Identifier: Apache-2.0
"""Solutions of RTKLIB (.pos), as `outsolheads` and `outsols` of its solution.c write them.

Lines that begin with % are comments; the last names time system and columns. A row has the time
(`2024/05/01 12:00:00.200`, or week and seconds of it), three coordinates, quality, number of
satellites, standard deviations north, east and up (of x y z: along these) and more.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pymap3d
from numpy.typing import NDArray

from disam_ros.datasets.text_rows import to_floats
from disam_ros.datasets.trajectories.geodetic import GeodeticPoses, local_poses
from disam_ros.errors import DatasetError
from disam_ros.files.checking import MAX_WHOLE
from disam_ros.files.reading import read_lines
from disam_ros.geodesy import Origin
from disam_ros.pose_buffer import NANOSECONDS

logger = logging.getLogger(__name__)

MAX_SIGMA = 0.5  # deviation of a position beyond which it is no pose of a map [m]
WEEK = 604800  # [s]
GPS_EPOCH = 315964800  # Unix time [s]
# Days from which GPS time is one more second ahead of UTC (IERS Bulletin C).
LEAPS = [
    int(datetime(*day, tzinfo=timezone.utc).timestamp())
    for day in (
        *((1981, 7, 1), (1982, 7, 1), (1983, 7, 1), (1985, 7, 1), (1988, 1, 1), (1990, 1, 1)),
        *((1991, 1, 1), (1992, 7, 1), (1993, 7, 1), (1994, 7, 1), (1996, 1, 1), (1997, 7, 1)),
        *((1999, 1, 1), (2006, 1, 1), (2009, 1, 1), (2012, 7, 1), (2015, 7, 1), (2017, 1, 1)),
    )
]
COLUMNS = re.compile(
    r"%\s+(?P<system>GPST|UTC|JST)[\s,;]+"
    r"(?P<first>latitude\(deg\)|latitude\(d'\"\)|x-ecef\(m\))(?P<separator>.)"
)
EXPECTED = (
    "a solution of RTKLIB in latitude and longitude or x y z, whose header names the columns "
    "(out-solformat llh or xyz, out-outhead on)"
)


def read_solution(path: Path, origin: Origin | None) -> GeodeticPoses:
    """Read poses of the antenna. origin: of the metres; None: the first row.

    Rows less sure than MAX_SIGMA are left out. Raises DatasetError.
    """
    columns = None
    stamps: list[int] = []
    rows: list[NDArray[np.float64]] = []
    left_out = 0
    for number, line in enumerate(read_lines(path, DatasetError), 1):
        if line.startswith("%"):
            columns = COLUMNS.match(line) or columns
            continue
        where = f"{path} line {number}"
        if not line.strip():
            continue
        if columns is None:
            raise DatasetError(f"{where}: expected {EXPECTED}")
        day, second, *rest = line.replace(columns["separator"], " ").split() + [""] * 2
        width = 6 if "'" in columns["first"] else 2
        fields = [*rest[: width + 1], *rest[width + 3 : width + 6]]
        values = to_floats(where, fields, " ".join(["value"] * width + ["up", "sdn", "sde", "sdu"]))
        # North and east; x y z point anywhere.
        if max(values[-3:] if columns["first"].startswith("x") else values[-3:-1]) > MAX_SIGMA:
            left_out += 1
            continue
        stamps.append(_utc(where, day, second, columns["system"]))
        rows.append(_degrees(values[:-3], columns["first"]))
    if left_out:
        logger.warning("%s: %d positions less sure than %g m left out", path, left_out, MAX_SIGMA)
    if not rows:
        raise DatasetError(
            f"{path} holds no position surer than {MAX_SIGMA:g} m ({left_out} less sure); expected "
            f"{EXPECTED}"
        )
    values = np.stack(rows)
    return local_poses(path, stamps, values[:, :2], values[:, 2], origin)


def _degrees(values: NDArray[np.float64], first: str) -> NDArray[np.float64]:
    """Convert the coordinates of a row to latitude, longitude [deg] and height [m]."""
    if first.startswith("x"):
        return np.array(pymap3d.ecef2geodetic(*values))
    if len(values) == 3:
        return values
    sexagesimal = np.abs(values[:6]).reshape(2, 3) @ (1, 1 / 60, 1 / 3600)
    return np.array([*np.copysign(sexagesimal, values[[0, 3]]), values[6]])


def _utc(where: str, day: str, second: str, system: str) -> int:
    """Convert a date and time, or a week and its seconds, to Unix time [ns]."""
    try:
        if "/" in day:
            year, month, date = map(int, day.split("/"))
            hours, minutes, seconds = second.split(":")
            midnight = datetime(year, month, date, tzinfo=timezone.utc).timestamp()
            whole, part = int(midnight) + 3600 * int(hours) + 60 * int(minutes), Decimal(seconds)
        else:
            whole, part = GPS_EPOCH + WEEK * int(day), Decimal(second)
        if not 0 <= part < WEEK + 1 or not 0 <= whole < MAX_WHOLE // NANOSECONDS - WEEK:
            raise ValueError
        stamp_ns = whole * NANOSECONDS + int(part * NANOSECONDS)
    except (ValueError, ArithmeticError) as error:
        raise DatasetError(
            f"{where}: expected YYYY/MM/DD hh:mm:ss or week and seconds, got "
            f"'{day:.40} {second:.40}'"
        ) from error
    if system == "UTC":
        return stamp_ns
    if system == "JST":
        return stamp_ns - 9 * 3600 * NANOSECONDS
    # The time at which a leap second applies is UTC, which lags by the leap seconds before.
    ahead = sum(stamp_ns >= (leap + count) * NANOSECONDS for count, leap in enumerate(LEAPS, 1))
    return stamp_ns - ahead * NANOSECONDS
