# SPDX-License-Identifier: Apache-2.0
"""Arrays and records of a map: rows are read, and arrays while it is built also written, on access.

A memory-mapped file that is truncated or on a disk that is full or fails ends the process at the
next access (SIGBUS); here the access raises MapError or OSError. Reading 50 rows of 23 kB takes
0.1 ms longer.

Fine descriptors are compared on a device: on a CPU they are read from the file, on a GPU kept
there, where half of its free memory may be taken. Else, and where CPU and GPU share their memory,
the few rows that are wanted go to the device each time, as bytes.
"""

from __future__ import annotations

import csv
import errno
import io
import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakMethod

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord, check_columns, parse_row
from disam_ros.device import CPU, is_cuda, is_integrated
from disam_ros.errors import DatasetError, MapError
from disam_ros.files.reading import HeldFile, parsing
from disam_ros.geometry import FARTHEST, UNIT
from disam_ros.models.arrays import biased

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

HEADER = 16384  # bytes that the header of a .npy file has at most
CHUNK = 4096  # rows copied to the device at once
SHARE = 0.5  # of the free memory
TABLE_CHUNK = 2**24  # bytes that are searched for line ends at once
KEPT = 4096  # parsed rows of a table that are kept, some kilobytes each
POSE = 7  # numbers of a pose: tx ty tz qx qy qz qw
LARGEST = 65504.0  # number of descriptors before they are compressed, in half precision


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


class RecordTable(Sequence[ImageRecord]):
    """The rows of an images.csv held open, parsed on access; some are kept.

    Raises DatasetError for missing columns at once, for a malformed row when it is read; and as the
    file does.
    """

    def __init__(self, file: HeldFile) -> None:
        self._file = file
        ends: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for start in range(0, file.size, TABLE_CHUNK):
            part = file.read(start, min(TABLE_CHUNK, file.size - start))
            ends.append(np.flatnonzero(np.frombuffer(part, np.uint8) == ord("\n")) + start)
        self._ends = np.concatenate(ends)  # the first is the header's
        head = file.read(0, int(self._ends[0])) if len(self._ends) else b""
        with parsing(file.path, DatasetError):
            self._columns = next(csv.reader([head.decode(errors="replace")]), [])
        check_columns(file.path, self._columns)
        method = WeakMethod(self._parse)  # a table that nobody holds is freed at once

        def parse(row: int) -> ImageRecord:
            bound = method()
            assert bound is not None  # called by the table itself
            return bound(row)

        self._record = lru_cache(KEPT)(parse)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageRecord]: ...

    def __getitem__(self, index: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]  # raises IndexError; counts negative ones from the end
        return self._record(row)

    def _parse(self, row: int) -> ImageRecord:
        first, end = int(self._ends[row]) + 1, int(self._ends[row + 1])
        line = self._file.read(first, end - first)
        try:
            cells = next(csv.reader([line.decode()]), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{self._file.path} line {row + 2} is malformed: {error}") from error
        return parse_row(dict(zip(self._columns, cells, strict=False)), self._file.path, row + 2)


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


class FineRows:
    """Rows of fine descriptors: float32 of torch on a device, `biased` codes of numpy on a CPU."""

    def __init__(self, rows: Rows, device: str) -> None:
        self._rows, self._device = rows, device
        self.resident: Tensor | None = None
        if is_cuda(device) and not is_integrated(device) and _fits(rows, device):
            self.resident = to_device(rows, device)

    def of(self, rows: NDArray[np.int64]) -> Any:
        """Descriptors [n, D] of map images."""
        if self._device == CPU:
            return biased(self._rows[rows])
        import torch

        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self._device)].float()
        return torch.from_numpy(np.ascontiguousarray(self._rows[rows])).to(self._device).float()


def to_device(rows: Rows, device: str) -> Tensor | None:
    """A copy int8 [N, D] on the device; None where another program has taken the memory."""
    import torch

    try:
        kept = torch.empty(rows.shape, dtype=torch.int8, device=device)
        for start in range(0, len(rows), CHUNK):
            part = np.array(rows[start : start + CHUNK])
            kept[start : start + CHUNK] = torch.from_numpy(part).to(device)
        return kept
    except torch.cuda.OutOfMemoryError:
        logger.warning("fine descriptors stay in the CPU's memory: %s has too little", device)
        return None


def _fits(rows: Rows, device: str) -> bool:
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return bool(rows.nbytes <= SHARE * free)


def check_poses(path: Path, poses: NDArray[np.float64]) -> None:
    """Raise MapError, naming the first row at fault, unless poses [N, 7] are poses on Earth."""
    if poses.shape[1] != POSE:
        raise MapError(f"{path} is damaged: expected {POSE} numbers a pose, got {poses.shape[1]}")
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.square(poses[:, 3:]).sum(1))
    near = np.abs(poses[:, :3]).max(1, initial=0.0) <= FARTHEST  # false with nan
    sound = near & (np.abs(norms - 1.0) <= UNIT)
    if not sound.all():
        row = int(np.argmin(sound))
        raise MapError(
            f"{path} is damaged: expected finite metres up to {FARTHEST:g} and a unit quaternion, "
            f"got {poses[row].tolist()} in row {row}; build the map again"
        )


def check_codes(
    folder: Path,
    width: int,
    steps: NDArray[np.float32],
    directions: NDArray[np.float16] | None,
) -> None:
    """Raise MapError unless quantization steps [d], and directions [d, D] where a map has its own,
    are those of coarse descriptors of `width` codes."""
    if steps.shape != (width,) or not ((steps > 0) & (steps <= LARGEST)).all():
        raise MapError(
            f"{folder / 'steps.npy'} is damaged: expected {width} steps above 0, one for each code "
            f"of coarse.npy, got {len(steps)}; build the map again"
        )
    if directions is None:
        return
    whole = directions.shape == (0, width)  # descriptors are not projected
    if not (whole or len(directions) == width) or not (np.abs(directions) <= LARGEST).all():
        raise MapError(
            f"{folder / 'directions.npy'} is damaged: expected {width} directions of finite "
            f"numbers, got {len(directions)}; build the map again"
        )


def check_fine(folder: Path, width: int, mean: NDArray[np.float32]) -> None:
    """Raise MapError unless the mean of fine descriptors [C] is one of `width` codes each."""
    if not len(mean) or width % len(mean) or not (np.abs(mean) <= LARGEST).all():
        raise MapError(
            f"{folder / 'mean.npy'} is damaged: expected a finite mean of each channel of the "
            f"{width} codes in fine.npy, got {len(mean)} numbers; build the map again"
        )
