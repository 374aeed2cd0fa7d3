# SPDX-License-Identifier: Apache-2.0
"""Posed images as rows of an images.csv, of a dataset or of a map."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from disam_ros.errors import DatasetError, GeometryError
from disam_ros.files.checking import MAX_WHOLE
from disam_ros.files.reading import read_lines
from disam_ros.files.writing import number_text
from disam_ros.geometry import Transform

RECORD_COLUMNS = ("id", "stamp_ns", "camera", "domain", "source")
POSE_COLUMNS = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
IMAGE_COLUMNS = (*RECORD_COLUMNS, "path", *POSE_COLUMNS)


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
        check_columns(path, reader.fieldnames or ())
        return [parse_row(row, path, reader.line_num) for row in reader]
    except csv.Error as error:
        line = reader.line_num + 1
        raise DatasetError(f"{path} line {line} is malformed: {error}") from error


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise DatasetError for missing columns."""
    missing = set(IMAGE_COLUMNS) - set(columns)
    if missing:
        raise DatasetError(f"{path} lacks the columns {sorted(missing)}")


def parse_row(row: dict[str, str], path: Path, line: int) -> ImageRecord:
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
