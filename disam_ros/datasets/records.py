# SPDX-License-Identifier: Apache-2.0
"""Posed images as rows of an images.csv, of a dataset or of a map."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, overload
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.checking import MAX_WHOLE
from disam_ros.files.reading import HeldFile, parsing, read_lines
from disam_ros.files.writing import number_text
from disam_ros.geometry import Transform

RECORD_COLUMNS = ("id", "stamp_ns", "camera", "domain", "source")
POSE_COLUMNS = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
IMAGE_COLUMNS = (*RECORD_COLUMNS, "path", *POSE_COLUMNS)
TABLE_CHUNK = 2**24  # bytes that are searched for line ends at once
KEPT = 4096  # parsed rows of a table that are kept, some kilobytes each


@dataclass(frozen=True)
class ImageRecord:
    """A posed image; a row of images.csv."""

    id: int  # position in the file, from 0
    stamp_ns: int  # 0: unknown
    camera: str
    domain: str  # empty: not named
    source: str  # where the image came from; in a map: path in the dataset, or topic of the bag
    map_from_camera: Transform | None  # optical camera frame; None: no pose known
    path: str = ""  # relative to the dataset directory; empty in a map


def records_writer(file: IO[str], header: bool = True) -> csv.DictWriter[str]:
    """A csv writer of record rows. header: write the column names first."""
    writer = csv.DictWriter(file, IMAGE_COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    return writer


def record_row(record: ImageRecord) -> dict[str, object]:
    """The csv row of a record; an unknown pose is seven empty fields."""
    row = {name: getattr(record, name) for name in (*RECORD_COLUMNS, "path")}
    pose = record.map_from_camera
    values = [""] * 7
    if pose is not None:
        values = [number_text(v) for v in (*pose.translation, *pose.quaternion)]
    return {**row, **dict(zip(POSE_COLUMNS, values, strict=True))}


def read_records(path: Path) -> list[ImageRecord]:
    """Read images.csv. Raises DatasetError, naming the file and line at fault."""
    reader = csv.DictReader(read_lines(path, DatasetError))
    try:
        _check_columns(path, reader.fieldnames or ())
        return [_parse_row(row, path, reader.line_num) for row in reader]
    except csv.Error as error:
        line = reader.line_num + 1
        raise DatasetError(f"{path} line {line} is malformed: {error}") from error


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
        _check_columns(file.path, self._columns)
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
        return _parse_row(dict(zip(self._columns, cells, strict=False)), self._file.path, row + 2)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise DatasetError for missing columns."""
    missing = set(IMAGE_COLUMNS) - set(columns)
    if missing:
        raise DatasetError(f"{path} lacks the columns {sorted(missing)}")


def _parse_row(row: dict[str, str], path: Path, line: int) -> ImageRecord:
    """The record of a row. Raises DatasetError."""
    try:
        if any("\0" in row[name] for name in ("camera", "domain", "path")):
            raise ValueError("a name holds a zero byte")
        pose = None
        if row["tx"] != "":
            values = np.array([float(row[name]) for name in POSE_COLUMNS])
            pose = Transform(values[:3], values[3:])
        if not 0 <= int(row["stamp_ns"]) < MAX_WHOLE:
            raise ValueError(f"stamp_ns expects nanoseconds from 0, got {row['stamp_ns']:.40}")
        if not 0 <= int(row["id"]) < MAX_WHOLE:
            raise ValueError(f"id expects a whole number from 0, got {row['id']:.40}")
        return ImageRecord(
            id=int(row["id"]),
            stamp_ns=int(row["stamp_ns"]),
            camera=row["camera"],
            domain=row["domain"],
            source=row["source"],
            map_from_camera=pose,
            path=row["path"],
        )
    except (ValueError, TypeError, KeyError, GeometryError) as error:
        raise DatasetError(f"{path} line {line} is malformed: {error}") from error
