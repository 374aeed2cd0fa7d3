# SPDX-License-Identifier: Apache-2.0
"""Names of images, by which the predictions of other programs are told apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from disam_ros.datasets.records import ImageRecord

T = TypeVar("T")
PARTS = 3  # last parts of a path that tell images apart: domain, camera, file
UTM_ID = 7  # cell of a file name in UTM that has the number of a map image


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
