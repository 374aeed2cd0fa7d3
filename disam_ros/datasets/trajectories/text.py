# SPDX-License-Identifier: Apache-2.0
"""Trajectories in rows of numbers: TUM, KITTI, EuRoC, and the variants of SLAM systems."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.text_rows import (
    located,
    matrix_of,
    nanoseconds,
    pose_of_matrix,
    text_rows,
    to_floats,
)
from disam_ros.datasets.trajectories.columns import Columns, columns_of, is_header, split_row
from disam_ros.datasets.trajectories.times import UNITS, to_stamps, unit_of
from disam_ros.errors import DatasetError
from disam_ros.files.reading import read_lines
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)

POSE = "tx ty tz qx qy qz qw"
TIMES = "times.txt"
COMMENTS = "#%"
NORM = 0.05  # by which a quaternion's norm may differ from 1
TUM = Columns((0,), (1, 2, 3), (4, 5, 6, 7))
W_FIRST = Columns((0,), (1, 2, 3), (5, 6, 7, 4), UNITS["ns"])  # EuRoC, VINS-Fusion
EXPECTED = (
    f"lines 'timestamp {POSE}' (TUM), 12 numbers of a matrix beside {TIMES} (KITTI), a table whose "
    "header names a time and a position with a quaternion or a latitude and longitude, or a "
    "solution of RTKLIB"
)
Poses = tuple[list[int], list[Transform]]
Row = tuple[str, list[str]]  # `FILE line N` and the fields


def read_rows(path: Path) -> Poses:
    """Read stamps [N] [ns] and poses [N] by the names of a header, else as TUM, KITTI or EuRoC.

    Fields that no name is known for are not read. Of rtabmap's ids, the ninth field, negative ones
    are landmarks and left out. Raises DatasetError.
    """
    columns, has_commas, rows = _open(path)
    if columns is None and not has_commas and rows and len(rows[0][1]) == 12:
        return _matrices(path, rows)
    if columns is None:
        columns = _usual_columns(path, rows, has_commas)
    cells: list[tuple[str, list[str]]] = []
    poses: list[Transform] = []
    for where, fields in rows:
        if len(fields) <= max(*columns.time, *columns.position, *columns.quaternion):
            raise DatasetError(f"{where}: {len(fields)} fields; expected {EXPECTED}")
        if _is_landmark(fields, columns):
            continue
        chosen = [fields[place] for place in (*columns.position, *columns.quaternion)]
        poses.append(_pose(where, to_floats(where, chosen, POSE)))
        cells.append((where, [fields[place] for place in columns.time]))
    return to_stamps(path, cells, columns.unit), poses


def _open(path: Path) -> tuple[Columns | None, bool, list[Row]]:
    """Read a header's columns, None without any, whether commas separate, and the rows."""
    columns, has_commas = None, False
    rows: list[Row] = []
    for number, line in enumerate(read_lines(path, DatasetError), 1):
        if not line.strip():
            continue
        is_comment = line.lstrip()[0] in COMMENTS
        if is_comment or (not rows and columns is None and is_header(line)):
            columns = columns if rows else columns_of(line) or columns
            continue
        has_commas = has_commas or "," in line
        rows.append((f"{path} line {number}", split_row(line)))
    return columns, has_commas, rows


def _usual_columns(path: Path, rows: Sequence[Row], has_commas: bool) -> Columns:
    """Return the columns of a file without header: TUM; nanoseconds and commas are EuRoC's."""
    unit = unit_of(path, [fields[0] for _, fields in rows if fields])
    if not has_commas or unit != UNITS["ns"]:
        return replace(TUM, unit=unit)
    logger.info(
        "%s: without a header, its columns are taken as time, x y z, qw qx qy qz, as of EuRoC",
        path,
    )
    return W_FIRST


def _is_landmark(fields: Sequence[str], columns: Columns) -> bool:
    """Return whether a row of rtabmap is a landmark."""
    if columns.id is not None:
        return len(fields) > columns.id and fields[columns.id].startswith("-")
    return len(fields) == 9 and re.fullmatch(r"-\d+", fields[8]) is not None


def _matrices(path: Path, rows: Sequence[Row]) -> Poses:
    """Read KITTI's matrices and the file of times beside them. Raises DatasetError."""
    times = _times(path)
    stamps: list[int] = []
    poses: list[Transform] = []
    for where, fields in rows:
        place, texts = next(times, (f"{path.parent / TIMES}, which has fewer lines", [""]))
        stamps.append(nanoseconds(place, texts[0]))
        poses.append(pose_of_matrix(where, matrix_of(where, fields)))
    return stamps, poses


def _times(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Rows of the file of times beside one of matrices. Raises DatasetError."""
    times = path.parent / TIMES
    if not times.is_file():
        raise DatasetError(f"{path} has matrices without times: expected {times}, seconds by line")
    return text_rows(times)


def _pose(where: str, values: NDArray[np.float64]) -> Transform:
    """A Transform of x y z qx qy qz qw. Raises DatasetError."""
    norm = float(np.linalg.norm(values[3:]))
    if abs(norm - 1.0) > NORM:
        raise DatasetError(
            f"{where}: {values[3:].tolist()} is no unit quaternion x y z w; if the columns have "
            f"another order, say it in a first line, such as '# timestamp {POSE}'"
        )
    with located(where):
        return Transform(values[:3], values[3:])
