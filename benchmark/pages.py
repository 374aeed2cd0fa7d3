# SPDX-License-Identifier: Apache-2.0
"""Pages of measured figures: docs/NAME.json holds them, benchmark/NAME/page.md.j2 shows them.

A section is a module of benchmark.NAME with `measure() -> dict` (JSON; empty: nothing to measure)
and, where it has a picture, `draw(results)`. The page shows the stored figures and nothing else.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.machine import ANSWERS, JUDGED, circumstances, commit, is_stale
from disam_ros.errors import DatasetError, ModelError
from disam_ros.files.reading import parse_json, read_bytes
from training.errors import TrainingError

MISSING = (DatasetError, ModelError, TrainingError, FileNotFoundError, ModuleNotFoundError)

ROWS = 4  # depth of figures' rows: page, section, results, table


@dataclass(frozen=True)
class Page:
    """One page of benchmark.NAME."""

    name: str
    sections: tuple[str, ...]  # modules, in the order of the page
    # Sections that train for hours, and where their runs lie: without that directory they are
    # measured only if they are named.
    trained: Mapping[str, Path] = field(default_factory=dict)
    # Files and folders whose change makes a section stale, where these are not JUDGED.
    judged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    of_answers: bool = False  # figures hold as long as answers do (benchmark/answers.py)
    derive: Callable[[Mapping[str, dict[str, Any]]], dict[str, Any]] = (
        lambda figures: {}
    )  # more for the template
    path: str = ""  # of the page in docs/, without suffix; empty: the name

    @property
    def figures(self) -> Path:
        """File of the figures."""
        return Path("docs") / f"{self.path or self.name}.json"

    @property
    def document(self) -> Path:
        """The page."""
        return Path("docs") / f"{self.path or self.name}.md"

    def section(self, name: str) -> ModuleType:
        return import_module(f"benchmark.{self.name}.{name}")

    def render(self, figures: Mapping[str, dict[str, Any]], only: str = "") -> str:
        """The page of the sections that have figures. only: that section without head and tail."""
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / self.name),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= FILTERS
        common = [] if only else common_circumstances(figures.values())
        environment.globals |= {"verdict": verdict, "common": common}
        environment.globals["under"] = partial(under, common=common)
        shown = {name: figures.get(name) for name in self.sections} | self.derive(figures)
        return environment.get_template("page.md.j2").render(shown, only=only)

    def show(self, name: str, results: dict[str, Any]) -> None:
        """Print one section."""
        section = {"measured_under": circumstances(), "stale": False, "results": stored(results)}
        figures = {name: section}
        print(self.render(figures, only=name))

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Measure the named sections, else all that were not measured at this commit, as after an
        interruption; write figures and page.

        Returns 1 where the results of a section name faults, else 0.
        """
        document = f"Measure and write {self.document}, whole or section by section."
        parser = argparse.ArgumentParser(prog=f"benchmark.{self.name}", description=document)
        parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(self.sections))
        parser.add_argument("--page-only", action="store_true", help="measure nothing")
        arguments = parser.parse_args(argv)
        if unknown := set(arguments.sections) - set(self.sections):
            choices = ", ".join(self.sections)
            parser.error(f"no section {', '.join(unknown)}; choose from {choices}")
        logging.basicConfig(level=logging.WARNING)
        failed = False
        for name in () if arguments.page_only else arguments.sections or self.sections:
            runs = self.trained.get(name)
            if runs and name not in arguments.sections and not runs.is_dir():
                print(f"{name}: skipped, {runs} is missing; name the section to train it")
                continue
            if name not in arguments.sections and self._is_of(name, commit()):
                print(f"{name}: measured at this commit; name the section to measure it again")
                continue
            failed |= self._measure(name)
        self.write()
        return int(failed)

    def write(self) -> None:
        """Writes the page of the stored figures, and marks those that are stale."""
        figures = self._figures()
        pairs = json.loads(ANSWERS.read_text())["alike"] if self.of_answers else []
        for name, section in figures.items():
            judged = self.judged.get(name, JUDGED)
            section["stale"] = is_stale(section["measured_under"], judged, pairs)
        self._store(figures)
        self.document.write_text(self.render(figures))

    def keep(self, name: str, results: dict[str, Any], measured_under: str) -> None:
        """Store the figures of a section; those of the others stay."""
        figures = self._figures()
        figures[name] = {"measured_under": measured_under, "stale": False, "results": results}
        self._store(figures)

    def _store(self, figures: Mapping[str, dict[str, Any]]) -> None:
        self.figures.write_text(dumped(figures, ROWS) + "\n")

    def _is_of(self, name: str, commit: str) -> bool:
        """Whether the stored figures of a section were measured at that commit, without changes."""
        measured_under = self._figures().get(name, {}).get("measured_under", "")
        changed = not commit or commit.endswith("-dirty")
        return not changed and measured_under.startswith(f"commit {commit},")

    def _figures(self) -> dict[str, dict[str, Any]]:
        if not self.figures.exists():
            return {}
        result: dict[str, dict[str, Any]] = parse_json(
            read_bytes(self.figures, DatasetError), str(self.figures), DatasetError
        )
        return result

    def _measure(self, name: str) -> bool:
        """Measure a section and keep its figures; without its data the old ones stay.

        Returns whether the results name faults.
        """
        measured_under = circumstances()
        try:
            module = self.section(name)
            results = stored(module.measure())
        except MISSING as error:
            print(f"{name}: skipped, {error}")
            return False
        if not results:
            print(f"{name}: skipped, nothing to measure")
            return False
        self.keep(name, results, measured_under)
        if hasattr(module, "draw"):
            module.draw(results)
        return bool(results.get("faults"))


def dumped(value: Any, depth: int, indent: str = "") -> str:
    """JSON with a line for each entry of the objects down to a depth, whose values are in one."""
    if not depth or not isinstance(value, Mapping) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + "  "
    entries = [
        f"{inner}{json.dumps(key, ensure_ascii=False)}: {dumped(entry, depth - 1, inner)}"
        for key, entry in value.items()
    ]
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def stored(results: dict[str, Any]) -> dict[str, Any]:
    """Results as they are read again from JSON."""
    result: dict[str, Any] = json.loads(json.dumps(results))
    return result


def percent(share: float, of: Sequence[float] = ()) -> str:
    """A share in percent; bold where it equals the best of others as they are written."""
    text = f"{100 * share:.1f}"
    return f"**{text}**" if of and text == f"{100 * max(of):.1f}" else text


def verdict(what: str, value: float, target: float, unit: str, at_least: bool = False) -> str:
    """`what ≤ target: met` or by how much it was missed."""
    met = value >= target if at_least else value <= target
    sign = "≥" if at_least else "≤"
    outcome = "met" if met else f"missed by {abs(value - target):.3g} {unit}".rstrip()
    return f"{what} {value:.3g} {unit}".rstrip() + f" {sign} {target:g}: {outcome}"


def column(
    rows: Mapping[str, dict[str, Any]] | Sequence[dict[str, Any]], *keys: str | int
) -> list[Any]:
    """The value at nested keys of every row."""
    values: list[Any] = list(rows.values() if isinstance(rows, Mapping) else rows)
    for key in keys:
        values = [row[key] for row in values]
    return values


def best(
    figures: Mapping[str, Any] | Sequence[Any], rows: Sequence[Mapping[str, Any] | Sequence[Any]]
) -> list[str]:
    """Percent of every figure, bold where it is the best of the rows'."""
    entries, *table = (_entries(row) for row in (figures, *rows))
    return [percent(entries[key], [row[key] for row in table]) for key in entries]


def _entries(row: Mapping[str, Any] | Sequence[Any]) -> dict[Any, Any]:
    """Values by key or number."""
    return dict(row if isinstance(row, Mapping) else enumerate(row))


def without(rows: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The rows but those of these names."""
    return {name: row for name, row in rows.items() if name not in names}


def groups(rows: Sequence[dict[str, Any]], *keys: str) -> Iterator[list[dict[str, Any]]]:
    """Consecutive rows with equal values of the keys."""
    for _, members in groupby(rows, lambda row: [row[key] for key in keys]):
        yield list(members)


def common_circumstances(sections: Collection[Mapping[str, Any]]) -> list[str]:
    """The circumstances that most sections share, such as processor and versions."""
    counts = Counter(part for section in sections for part in _circumstances(section))
    often = [part for part, count in counts.items() if 2 * count > len(sections)]
    return [part for part in often if not part.startswith(("commit ", "load "))]


def _circumstances(section: Mapping[str, Any]) -> list[str]:
    parts: list[str] = section["measured_under"].split(", ")
    return parts


def under(section: Mapping[str, Any], *remarks: str, common: Sequence[str] = ()) -> str:
    """A sentence with the circumstances of a section's figures, without those of the whole page."""
    text = ", ".join(part for part in _circumstances(section) if part not in common)
    stale = ["stale"] if section.get("stale") else []
    return "; ".join([f"Measured under: {text}", *remarks, *stale]) + "."


def telling(rows: Mapping[str, Any]) -> dict[str, Any]:
    """The rows but those with keypoints that equal the row without."""
    return {
        name: row
        for name, row in rows.items()
        if not name.endswith(", keypoints") or row != rows.get(name.removesuffix(", keypoints"))
    }


def ranked(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Names of answerers, the one that knows most images first."""
    return sorted(names, key=lambda name: -row[name]["known"])


def spread(values: Sequence[float], factor: float = 1.0) -> str:
    """Mean over seeds and, where they differ, the smallest and largest."""
    low, high = factor * min(values), factor * max(values)
    mean = f"{factor * np.mean(values):.1f}"
    return mean if low == high else f"{mean} ({low:.1f}–{high:.1f})"


FILTERS = {
    "percent": percent,
    "best": best,
    "column": column,
    "without": without,
    "groups": groups,
    "telling": telling,
    "ranked": ranked,
    "spread": spread,
    "median": np.median,
    "thousands": "{:,}".format,
}
