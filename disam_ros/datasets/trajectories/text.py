# SPDX-License-Identifier: Apache-2.0
"""Trajectories in lines of numbers: TUM, KITTI, EuRoC, and the variants of SLAM systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.text_rows import nanoseconds, pose_of_matrix, text_rows, to_floats
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.checking import MAX_WHOLE
from disam_ros.files.reading import read_lines
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS

POSE = "tx ty tz qx qy qz qw"
MATRIX = " ".join(f"m{row}{column}" for row in "123" for column in "1234")
TIMES = "times.txt"
MAX_SECONDS = MAX_WHOLE // NANOSECONDS  # in a stamp
EXPECTED = (
    f"lines 'timestamp {POSE}' (TUM), 12 numbers of a matrix beside {TIMES} (KITTI), "
    "a EuRoC table, a table with the columns timestamp, latitude and longitude, or a solution of "
    "RTKLIB"
)
Poses = tuple[list[int], list[Transform]]


def read_rows(path: Path) -> Poses:
    """Read TUM or KITTI, by the number of fields: stamps [N] [ns] and poses [N].

    Stamps beyond any number of seconds are nanoseconds, as ORB-SLAM3 writes the lines of TUM for
    EuRoC. Of rtabmap's ids, the ninth field, negative ones are landmarks and left out. Raises
    DatasetError.
    """
    stamps: list[int] = []
    listed: list[tuple[str, str]] = []
    poses: list[Transform] = []
    times: Iterator[tuple[str, list[str]]] | None = None
    for where, fields in text_rows(path):
        if len(fields) == 12:
            times = times or _times(path)
            stamp = next(times, (f"{path.parent / TIMES}, which has fewer lines", [""]))
            stamps.append(nanoseconds(stamp[0], stamp[1][0]))
            poses.append(pose_of_matrix(where, to_floats(where, fields, MATRIX).reshape(3, 4)))
        elif len(fields) in (8, 9):
            if len(fields) == 9 and fields[8].startswith("-"):
                continue
            listed.append((where, fields[0]))
            poses.append(_pose(where, to_floats(where, fields[1:8], POSE)))
        else:
            raise DatasetError(f"{where}: {len(fields)} fields; expected {EXPECTED}")
    return stamps + _stamps(listed), poses


def _stamps(listed: list[tuple[str, str]]) -> list[int]:
    """Nanoseconds of stamps of one file, each with its place."""
    _, last = max(listed, key=lambda item: len(item[1].partition(".")[0]), default=("", ""))
    whole = last.partition(".")[0]
    if not (whole.isdecimal() and int(whole) > MAX_SECONDS):
        return [nanoseconds(*item) for item in listed]
    return [whole_ns(where, text.partition(".")[0]) for where, text in listed]


def _times(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Rows of the file of times beside one of matrices. Raises DatasetError."""
    times = path.parent / TIMES
    if not times.is_file():
        raise DatasetError(f"{path} has matrices without times: expected {times}, seconds by line")
    return text_rows(times)


def read_euroc(path: Path) -> Poses:
    """Read the ground truth of EuRoC: stamps [N] [ns] and poses [N]. Raises DatasetError."""
    stamps, poses = [], []
    for number, line in enumerate(read_lines(path, DatasetError), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where, fields = f"{path} line {number}", line.split(",")
        w_first = to_floats(where, fields[1:8], "x y z qw qx qy qz")
        stamps.append(whole_ns(where, fields[0]))
        poses.append(_pose(where, w_first[[0, 1, 2, 4, 5, 6, 3]]))
    return stamps, poses


def _pose(where: str, values: NDArray[np.float64]) -> Transform:
    """A Transform of x y z qx qy qz qw. Raises DatasetError."""
    try:
        return Transform(values[:3], values[3:])
    except GeometryError as error:
        raise DatasetError(f"{where}: {error}") from error


def whole_ns(where: str, text: str) -> int:
    """Read whole nanoseconds. Raises DatasetError."""
    if not (text.strip().isdecimal() and len(text) < 20 and int(text) < MAX_WHOLE):
        raise DatasetError(f"{where}: expected whole nanoseconds, got '{text:.40}'")
    return int(text)
