# SPDX-License-Identifier: Apache-2.0
"""Predictions of other methods, and the names of images in them.

pairs    lines `query map_image`, best first, as hloc's pairs_from_retrieval.py writes them
table    comma-separated: the query, then its map images, best first, on each line
folder   of text files as VPR-methods-evaluation saves, `Query path:` and `Predictions paths:`
poses    lines `timestamp tx ty tz qx qy qz qw` (TUM), map_from_base, as rtabmap exports

Rankings of our own are written as pairs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.text_rows import text_rows
from disam_ros.datasets.trajectories import Trajectory, read_trajectory
from disam_ros.errors import DatasetError
from disam_ros.evaluation.judge import Evaluation
from disam_ros.files.reading import parsing, read_lines

T = TypeVar("T")
PARTS = 3  # last parts of a path that tell images apart: domain, camera, file
UTM_ID = 7  # cell of a file name in UTM that has the number of a map image
EXPECTED = (
    "pairs 'query map_image' (hloc), a table of a query and its map images on each line, a folder "
    "of predictions (VPR-methods-evaluation), or poses in lines 'timestamp tx ty tz qx qy qz qw'"
)


def name_of(record: ImageRecord) -> str:
    """Returns the path of an image in its dataset; of an image of a bag, topic and stamp."""
    name = record.path or record.source
    return name if PurePosixPath(name).suffix else f"{name}/{record.stamp_ns}"


class Names(Generic[T]):
    """Values by the names of images, found by the end of a path."""

    def __init__(self, named: Iterable[tuple[str, T]]) -> None:
        self._ends: dict[str, T] = {}
        self._files: dict[str, T | None] = {}  # None: of several
        for name, value in named:
            self._ends[_end(name, PARTS)] = value
            file = _end(name, 1)
            self._files[file] = None if file in self._files else value

    def find(self, name: str) -> T | None:
        """Returns the value of the image whose path ends as `name`; None if none or several do."""
        return self._ends.get(_end(name, PARTS), self._files.get(_end(name, 1)))

    def example(self) -> str:
        """Returns one of the names."""
        return next(iter(self._ends), "")


def utm_id(name: str) -> int | None:
    """Returns the number of a map image in a name by `disam map export`; None in other names."""
    cells = _end(name, 1).split("@")
    is_one = len(cells) > UTM_ID and not cells[0] and cells[UTM_ID].isdecimal()
    return int(cells[UTM_ID]) if is_one else None


def _end(name: str, parts: int) -> str:
    return "/".join(PurePosixPath(name.replace("\\", "/").replace(" ", "_")).parts[-parts:])


@dataclass(frozen=True)
class Predictions:
    """Predicted map images, or poses."""

    ranked: dict[str, list[str]] = field(default_factory=dict)  # map images by query, best first
    poses: Trajectory | None = None  # in place of map images


def read_predictions(path: Path | str) -> Predictions:
    """Reads predictions in one of the forms above, recognized by shape. Raises DatasetError."""
    with parsing(Path(path), DatasetError):
        return _read(Path(path))


def _read(path: Path) -> Predictions:
    if path.is_dir():
        return Predictions(_folder(path))
    first = next((f for _, f in text_rows(path)), [])
    if len(first) in (8, 9) and all(_is_number(text) for text in first):
        return Predictions(poses=read_trajectory(path))
    ranked = _pairs(path) if len(first) == 2 and "," not in "".join(first) else _table(path)
    if not ranked:
        raise DatasetError(f"{path} holds no predictions; expected {EXPECTED}")
    return Predictions(ranked)


def _pairs(path: Path) -> dict[str, list[str]]:
    ranked: dict[str, list[str]] = {}
    for where, fields in text_rows(path):
        if len(fields) != 2:
            raise DatasetError(f"{where}: {len(fields)} fields; expected {EXPECTED}")
        ranked.setdefault(fields[0], []).append(fields[1])
    return ranked


def _table(path: Path) -> dict[str, list[str]]:
    ranked: dict[str, list[str]] = {}
    for number, row in enumerate(csv.reader(read_lines(path, DatasetError)), 1):
        cells = [cell.strip() for cell in row if cell.strip()]
        if not cells or (number == 1 and cells[0].lower() in ("query", "query_path", "image")):
            continue
        if len(cells) < 2:
            raise DatasetError(f"{path} line {number}: expected {EXPECTED}")
        ranked.setdefault(cells[0], []).extend(cells[1:])
    return ranked


def _folder(path: Path) -> dict[str, list[str]]:
    ranked: dict[str, list[str]] = {}
    for file in sorted(path.glob("*.txt")):
        part, query, images = "", "", list[str]()
        for line in map(str.strip, read_lines(file, DatasetError)):
            if line.endswith(":") and "path" in line.lower():
                part = line.split()[0].lower()
            elif line and part == "query":
                query = line
            elif line and part == "predictions":
                images.append(line)
        if not query or not images:
            raise DatasetError(f"{file}: expected 'Query path:' and 'Predictions paths:'")
        ranked[query] = images
    if not ranked:
        raise DatasetError(f"{path} holds no .txt files of predictions; expected {EXPECTED}")
    return ranked


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_pairs(directory: Path, evaluation: Evaluation) -> None:
    """Writes NAME.txt per condition with lines `query map_image`, best first.

    Images have the names of `name_of`, in which blanks become _.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, condition in evaluation.conditions.items():
        lines: list[str] = []
        for frame in condition.frames:
            query = _word(name_of(frame.answer.record))
            ranking = frame.answer.ranking
            lines += [f"{query} {_word(name_of(image))}\n" for image in ranking]
        stem = re.sub(r"[^\w.-]+", "_", name)
        (directory / f"{stem}.txt").write_text("".join(lines))


def _word(name: str) -> str:
    return re.sub(r"\s", "_", name)
