# SPDX-License-Identifier: Apache-2.0
"""Tables of results, shown on a terminal (rich) and in the report (page.html.j2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from disam_ros.files.printable import printable

BOUND = "upper bound"  # part of a column: the score of the nearest map image


@dataclass(frozen=True)
class Column:
    """A heading over one or more parts, which have a unit or a name each."""

    name: str  # the heading
    cells: Callable[[Any], Sequence[str]]  # texts of a row, one per part, from the row's subject
    parts: tuple[str, ...] = ("",)  # unit or name


@dataclass(frozen=True)
class ResultTable:
    """A table of results."""

    title: str  # stands above the table
    columns: list[Column]  # from left to right
    subjects: list[tuple[str, Any]]  # name of each row and the object that its cells describe
    terms: dict[str, str] = field(default_factory=dict)  # explanations of words of the table

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """Name and cells of each row, as many as the columns have parts."""
        return [(n, [cell for c in self.columns for cell in c.cells(s)]) for n, s in self.subjects]

    @property
    def parts(self) -> list[str]:
        """The parts of all columns."""
        return [part for column in self.columns for part in column.parts]

    @property
    def labels(self) -> list[str]:
        """Heading and part of each cell of a row, where no heading stands above it."""
        return [f"{column.name} {part}".strip() for column in self.columns for part in column.parts]

    @property
    def firsts(self) -> list[bool]:
        """Returns whether each part is the first of its column."""
        return [i == 0 for column in self.columns for i in range(len(column.parts))]

    def __rich__(self) -> Table:
        result = Table(title=self.title, title_justify="left")
        result.add_column("")
        for column in self.columns:
            parts = _joined(column.parts, column)
            result.add_column(
                f"{printable(column.name)}\n{printable(parts)}".strip(), justify="right"
            )
        before = ""
        for name, subject in self.subjects:
            cells = [_joined(column.cells(subject), column) for column in self.columns]
            result.add_row("" if name == before else printable(name), *map(printable, cells))
            before = name
        return result


def percent(share: float | None) -> str:
    """Formats a share in percent; a dash where there is none."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def number(value: float | None, digits: int = 2) -> str:
    """Formats a number; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def plain(value: object) -> str:
    """Formats a value in words; empty where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, Mapping):
        texts = {key: plain(item) for key, item in value.items()}
        return ", ".join(f"{key} {text}" for key, text in texts.items() if text)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _joined(texts: Sequence[str], column: Column) -> str:
    """Joins the parts of a cell."""
    if BOUND in column.parts:
        return f"{texts[0]} ({texts[1]})"
    return (" / " if len(texts) == 2 else "/").join(texts)
