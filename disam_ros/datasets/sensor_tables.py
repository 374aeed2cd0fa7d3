# SPDX-License-Identifier: Apache-2.0
"""Tables of odometry and satellite fixes of a dataset.

odom.csv   ODOM_COLUMNS: odom_from_base (metres, quaternion), vx m/s, wz rad/s
fix.csv    FIX_COLUMNS: degrees, metres above the ellipsoid, m² of east and of north
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import POSE_COLUMNS
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.reading import read_lines, reading
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import Track

ODOM_FILE, FIX_FILE = "odom.csv", "fix.csv"
ODOM_COLUMNS = ("stamp_ns", *POSE_COLUMNS, "vx", "wz")
FIX_COLUMNS = ("stamp_ns", "latitude", "longitude", "altitude", "variance")
OPTIONAL = ("variance",)  # read as nan where a file lacks the column


def read_table(file: Path, columns: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read stamps [N] [ns] in order and the other columns [N, C−1]. Raises DatasetError."""
    try:
        rows = [
            [row.get(name, "nan") if name in OPTIONAL else row[name] for name in columns]
            for row in csv.DictReader(read_lines(file, DatasetError))
        ]
        stamps = np.array([int(row[0]) for row in rows], dtype=np.int64)
        values = np.array([[float(v) for v in row[1:]] for row in rows], dtype=np.float64)
    except (KeyError, ValueError, TypeError, OverflowError, csv.Error) as error:
        expected = ", ".join(columns)
        raise DatasetError(f"{file} is malformed ({error}); expected columns {expected}") from error
    order = np.argsort(stamps, kind="stable")
    return stamps[order], values.reshape(-1, len(columns) - 1)[order]


def read_odometry(directory: Path) -> Track | None:
    """Read odom_from_base, stamps strictly increasing; None where there is no table.

    Raises DatasetError for a malformed one.
    """
    file = directory / ODOM_FILE
    with reading(file, DatasetError):
        if not file.exists():
            return None
    stamps, values = read_table(file, ODOM_COLUMNS)
    stamps, first = np.unique(stamps, return_index=True)
    try:
        return Track(stamps, [Transform(row[:3], row[3:7]) for row in values[first]])
    except GeometryError as error:
        raise DatasetError(f"{file} is malformed: {error}") from error
