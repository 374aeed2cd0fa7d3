# SPDX-License-Identifier: Apache-2.0
"""Predictions of other methods.

pairs    lines `query map_image`, best first, as hloc's pairs_from_retrieval.py writes them
table    comma-separated: the query, then its map images, best first, on each line
folder   of text files as VPR-methods-evaluation saves, `Query path:` and `Predictions paths:`
poses    lines `timestamp tx ty tz qx qy qz qw` (TUM), map_from_base, as rtabmap exports
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from disam_ros.datasets.text_rows import text_rows
from disam_ros.datasets.trajectories import Trajectory, read_trajectory
from disam_ros.errors import DatasetError
from disam_ros.files.reading import parsing, read_lines

EXPECTED = (
    "pairs 'query map_image' (hloc), a table of a query and its map images on each line, a folder "
    "of predictions (VPR-methods-evaluation), or poses in lines 'timestamp tx ty tz qx qy qz qw'"
)


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
