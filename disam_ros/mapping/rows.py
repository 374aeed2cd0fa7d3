# SPDX-License-Identifier: Apache-2.0
"""Arrays of a map: rows are read, and while it is built also written, on access.

A memory-mapped file that is truncated or on a disk that is full or fails ends the process at the
next access (SIGBUS); here the access raises MapError or OSError. Reading 50 rows of 23 kB takes
0.1 ms longer.
"""

from __future__ import annotations

import errno
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from disam_ros.errors import MapError
from disam_ros.files.held import HeldFile

HEADER = 16384  # bytes that the header of a .npy file has at most


class Rows:
    """An array [N, ...] in a .npy file; indexing by number, slice or rows [n] returns a copy.

    Raises MapError where the file holds no array or less than its header says, and on access as
    HeldFile does.
    """

    def __init__(self, file: HeldFile) -> None:
        self._file = file
        try:
            self.shape, self.dtype, self._start = _header(file)
        except Exception as error:  # numpy parses a header as Python source
            raise MapError(f"{file.path} is damaged: {error}") from error
        self._row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        expected = self._start + self.nbytes
        if file.size != expected:
            raise MapError(f"{file.path} is damaged: expected {expected} bytes, got {file.size}")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self._row_bytes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(len(self))
            return self._read(first, max(0, last - first))
        if isinstance(rows, (int, np.integer)):
            only: NDArray[Any] = self._read(range(len(self))[rows], 1)[0]  # raises IndexError
            return only
        chosen = self._numbers(rows)
        values = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        content = _bytes(values, self._row_bytes)
        breaks = np.flatnonzero(np.diff(chosen) != 1) + 1  # rows in between are read at once
        firsts = np.append(0, breaks)[: len(chosen)]
        ends = np.append(breaks, len(chosen))[: len(chosen)]
        runs = zip(firsts.tolist(), ends.tolist(), strict=True)
        pieces = [content[first:end].reshape(-1).data for first, end in runs]
        self._file.read_each(pieces, (self._start + chosen[firsts] * self._row_bytes).tolist())
        return values

    def _numbers(self, rows: Any) -> NDArray[np.int64]:
        """Row numbers int64 [n]. Raises IndexError."""
        plain = isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 1
        if plain and len(rows) and rows.min() >= 0 and rows.max() < len(self):
            return np.asarray(rows)
        numbers: NDArray[np.int64] = np.arange(len(self))[rows]
        return numbers

    def _read(self, first: int, count: int) -> NDArray[Any]:
        """Consecutive rows."""
        values = np.empty((count, *self.shape[1:]), self.dtype)
        target = _bytes(values, self._row_bytes).reshape(-1).data
        self._file.read_into(target, self._start + first * self._row_bytes)
        return values


class RowFile:
    """Rows of a .npy file that is being written, read and replaced one by one. Context manager.

    kind: type of a row. start: where the first one begins [bytes]. Unlike in a memory map, a disk
    that is full or fails is an OSError where a row is read or written.
    """

    def __init__(self, path: Path, kind: np.dtype[np.void], start: int) -> None:
        self._kind, self._start = kind, start
        self._file = path.open("r+b")

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, row: int) -> np.void:
        self._seek(row)
        values = np.zeros(1, self._kind)
        if self._file.readinto(values.view(np.uint8).data) < self._kind.itemsize:
            raise OSError(errno.EIO, "it was cut off", self._file.name)
        value: np.void = values[0]
        return value

    def __setitem__(self, row: int, value: np.void) -> None:
        self._seek(row)
        self._file.write(value.tobytes())

    def _seek(self, row: int) -> None:
        self._file.seek(self._start + int(row) * self._kind.itemsize)


def _header(file: HeldFile) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and place of the numbers [bytes]. Raises ValueError, MapError."""
    start = io.BytesIO(file.read(0, min(file.size, HEADER)))
    version = npy.read_magic(start)  # type: ignore[no-untyped-call]
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, kind = reader(start)  # type: ignore[no-untyped-call]
    if (by_columns and len(shape) > 1) or not shape or kind.hasobject:
        raise ValueError(f"expected rows of numbers, got {kind} of shape {list(shape)}")
    return shape, kind, start.tell()


def _bytes(rows: NDArray[Any], row_bytes: int) -> NDArray[np.uint8]:
    """View of contiguous rows as uint8 [N, B]."""
    return rows.reshape(-1).view(np.uint8).reshape(len(rows), row_bytes)
