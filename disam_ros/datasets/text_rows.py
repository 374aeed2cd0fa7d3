# SPDX-License-Identifier: Apache-2.0
"""Rows of text files: fields, numbers, times and poses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.reading import read_lines
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS

MATRIX = " ".join(f"m{row}{column}" for row in "123" for column in "1234")


def text_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Read `FILE line N` and the fields of each line that is neither empty nor a # comment.

    Raises DatasetError where the file cannot be read.
    """
    for number, line in enumerate(read_lines(path, DatasetError), 1):
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            yield f"{path} line {number}", fields


def to_floats(where: str, fields: Sequence[str], expected: str) -> NDArray[np.float64]:
    """Convert fields to numbers [K]. expected: their names. Raises DatasetError."""
    try:
        values = np.array([float(field) for field in fields])
    except ValueError:
        values = np.array([np.nan])
    if len(values) != len(expected.split()) or not np.isfinite(values).all():
        raise DatasetError(
            f"{where}: expected the numbers {expected}, got '{' '.join(fields):.200}'"
        )
    return values


@contextmanager
def located(where: str) -> Iterator[None]:
    """Turns a GeometryError of the block into a DatasetError that says where."""
    try:
        yield
    except GeometryError as error:
        raise DatasetError(f"{where}: {error}") from error


def matrix_of(where: str, fields: Sequence[str]) -> NDArray[np.float64]:
    """Convert the numbers of a matrix by rows to [3, 4]. Raises DatasetError."""
    return to_floats(where, fields, MATRIX).reshape(3, 4)


def pose_of_matrix(where: str, rows: NDArray[np.float64]) -> Transform:
    """A Transform of its matrix [3, 4]. Raises DatasetError unless its 3×3 part is a rotation."""
    rotation = rows[:, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise DatasetError(f"{where}: expected a rotation matrix, got {rotation.tolist()}")
    with located(where):
        return Transform.from_rotation(rows[:, 3], rotation)


def tum_line(stamp_ns: int, pose: Iterable[float]) -> str:
    """Formats a pose tx ty tz qx qy qz qw of a TUM trajectory; the time has nanoseconds."""
    values = " ".join(f"{v:.9f}" for v in pose)
    return f"{stamp_ns // NANOSECONDS}.{stamp_ns % NANOSECONDS:09d} {values}"


def nanoseconds(where: str, seconds: str) -> int:
    """Convert seconds in decimals to nanoseconds, exactly. Raises DatasetError."""
    try:
        value = Decimal(seconds) * NANOSECONDS
        is_time = 0 <= value < 2**63
    except (ArithmeticError, ValueError):
        is_time = False
    if not is_time:
        raise DatasetError(f"{where}: expected a time in seconds, got '{seconds:.40}'")
    return int(value)
