# SPDX-License-Identifier: Apache-2.0
"""Posed images as rows of an images.csv, of a dataset or of a map."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TextIO, overload
from weakref import WeakMethod

import numpy as np

from disam_ros.errors import DatasetError, GeometryError
from disam_ros.geometry import Transform

RECORD_COLUMNS = ("id", "stamp_ns", "camera", "domain", "source")
POSE_COLUMNS = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
IMAGE_COLUMNS = (*RECORD_COLUMNS, "path", *POSE_COLUMNS)
TABLE_CHUNK = 2**24  # bytes that are searched for line ends at once
KEPT = 4096  # parsed rows of a table that are kept, some kilobytes each


@dataclass(frozen=True)
class ImageRecord:
    """One posed image; a row of images.csv."""

    id: int  # position in the file, from 0
    stamp_ns: int
    camera: str
    domain: str
    source: str  # where the image came from; in a map: path in the dataset, or topic of the bag
    map_from_camera: Transform | None  # optical camera frame; None: no pose known
    path: str = ""  # relative to the dataset directory; empty in a map


def records_writer(file: TextIO, header: bool = True) -> csv.DictWriter:
    """A csv writer for record rows. header: write the column names first."""
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
        values = [f"{v:.9g}" for v in (*pose.translation, *pose.quaternion)]
    return {**row, **dict(zip(POSE_COLUMNS, values, strict=True))}


def read_records(path: Path) -> list[ImageRecord]:
    """Read images.csv. Raises DatasetError naming the file and line at fault."""
    if not path.is_file():
        raise DatasetError(f"{path} not found: not a complete dataset or map directory")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = set(IMAGE_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{path} lacks the columns {sorted(missing)}")
        return [_parse_row(row, path, reader.line_num) for row in reader]


class RecordTable(Sequence[ImageRecord]):
    """The rows of an images.csv, parsed on access from the memory-mapped file; some are kept.

    Raises DatasetError for a missing file or columns at once, for a malformed row when it is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise DatasetError(f"{path} not found: not a complete dataset or map directory")
        with path.open(newline="") as file:
            self._columns = next(csv.reader(file), [])
        missing = set(IMAGE_COLUMNS) - set(self._columns)
        if missing:
            raise DatasetError(f"{path} lacks the columns {sorted(missing)}")
        self._bytes = np.memmap(path, np.uint8, "r")
        parts = range(0, len(self._bytes), TABLE_CHUNK)
        ends = [np.flatnonzero(self._bytes[p : p + TABLE_CHUNK] == ord("\n")) + p for p in parts]
        self._ends = np.concatenate(ends)  # the first is the header's
        parse = WeakMethod(self._parse)  # a table that nobody holds is freed at once
        self._record = lru_cache(KEPT)(lambda row: parse()(row))

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
        line = self._bytes[self._ends[row] + 1 : self._ends[row + 1]].tobytes().decode()
        cells = dict(zip(self._columns, next(csv.reader([line]), []), strict=False))
        return _parse_row(cells, self._path, row + 2)


def _parse_row(row: dict[str, str], path: Path, line: int) -> ImageRecord:
    try:
        pose = None
        if row["tx"] != "":
            values = np.array([float(row[name]) for name in POSE_COLUMNS])
            pose = Transform(values[:3], values[3:])
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
