# SPDX-License-Identifier: Apache-2.0
"""Comparison of two evaluations: differences with bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from disam_ros.errors import DatasetError
from disam_ros.evaluation.judge import OVERALL
from disam_ros.evaluation.results import Results
from disam_ros.files.printable import printable
from disam_ros.localization.query import KNOWN

BLOCK = 10  # consecutive frames resampled together: neighbours in time are correlated
DRAWS = 2000  # bootstrap samples
SEED = 0
INTERVAL = (2.5, 97.5)  # percentiles
OTHERS = {  # figures without intervals, and where they stand in results.json
    "answered, %": "metrics.answered",
    "median error, m": "metrics.median_error_m",
    "90 % of errors below, m": "metrics.p90_error_m",
    "recall at 100 % precision, %": "precision_recall.recall_at_full_precision",
    "area under PR, %": "precision_recall.area",
    "position NEES, mean": "consistency.position_mean",
    "latency p50, ms": "latency_ms.total.p50",
    "latency p99, ms": "latency_ms.total.p99",
}


@dataclass(frozen=True)
class Difference:
    """A figure of two evaluations."""

    condition: str  # name of the condition, the same in both
    figure: str  # name of the figure, with its unit
    a: float | None  # of the first evaluation
    b: float | None  # of the second evaluation
    interval: tuple[float, float] | None = None  # 95 %, of b − a; None: frames cannot be paired

    @property
    def sign(self) -> int:
        """1 or −1 where the interval lies above or below zero, else 0."""
        low, high = self.interval or (0.0, 0.0)
        return (low > 0) - (high < 0)


def compare(a: Results, b: Results) -> list[Difference]:
    """Compares two results.json, condition by condition.

    Shares within the thresholds have a paired block bootstrap interval over the frames of both.
    Raises DatasetError where they share no condition or differ in criteria.
    """
    if a["criteria"] != b["criteria"]:
        raise DatasetError(
            f"the evaluations have different criteria, {a['criteria']} and {b['criteria']}: "
            f"evaluate one of them again"
        )
    common = [name for name in a["conditions"] if name in b["conditions"]]
    if not common:
        raise DatasetError(
            f"the evaluations share no condition: {list(a['conditions'])} and "
            f"{list(b['conditions'])}"
        )
    differences: list[Difference] = []
    for name in common:
        differences += _shares(name, a, b)
        differences += _others(name, a["conditions"][name], b["conditions"][name])
    if common == list(a["conditions"]) == list(b["conditions"]) and len(common) > 1:
        differences += _shares(OVERALL, a, b)
        differences += _others(OVERALL, a[OVERALL], b[OVERALL])
    return differences


def comparison_table(a: Results, b: Results, names: tuple[str, str]) -> Table:
    """Tabulates the differences for a terminal. names: of the two evaluations."""
    names = printable(names[0]), printable(names[1])
    table = Table(title=f"{names[1]} against {names[0]}", title_justify="left")
    table.add_column("condition", no_wrap=True)
    table.add_column("figure")
    for column in (*names, "difference", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    before = ""
    for d in compare(a, b):
        scale = 100 if d.figure.endswith("%") else 1
        interval = " … ".join(f"{scale * end:+.1f}" for end in d.interval or ())
        change = "" if d.a is None or d.b is None else f"{scale * (d.b - d.a):+.2f}"
        cells = ["–" if v is None else f"{scale * v:.2f}" for v in (d.a, d.b)]
        shown = printable(d.condition) if d.condition != before else ""
        style = {1: "green", 0: "", -1: "red"}[d.sign]
        table.add_row(shown, d.figure, *cells, change, interval, style=style)
        before = d.condition
    return table


def _shares(name: str, a: Results, b: Results) -> list[Difference]:
    """Shares within the pose thresholds and at the recall distance, with intervals."""
    limits = {
        f"within {metres:g} m {degrees:g}°, %": (metres, degrees)
        for metres, degrees in a["criteria"]["thresholds"]
    }
    distance = a["criteria"]["recall_distance"]
    limits[f"R@1 {distance:g} m, %"] = (distance, math.inf)
    differences = []
    for figure, (metres, degrees) in limits.items():
        rows = [_right(values, name, metres, degrees) for values in (a, b)]
        shares = [float(np.mean(list(r.values()))) if r else None for r in rows]
        pairs = [(rows[0][frame], rows[1][frame]) for frame in rows[0] if frame in rows[1]]
        interval = _interval(np.array(pairs, float)) if len(pairs) >= BLOCK else None
        differences.append(Difference(name, figure, shares[0], shares[1], interval))
    return differences


def _right(
    values: Results, name: str, most_metres: float, most_degrees: float
) -> dict[tuple[str, str, int], bool]:
    """Maps (condition, camera, stamp) of frames with a true pose to whether the answer is right."""
    columns = ("condition", "camera", "stamp_ns", "outcome", "error_m", "error_deg", "judged")
    rows = zip(*(values["frames"][column] for column in columns), strict=True)
    return {
        (condition, camera, stamp): outcome == KNOWN
        and metres is not None
        and metres <= most_metres
        and degrees <= most_degrees
        for condition, camera, stamp, outcome, metres, degrees, judged in rows
        if judged and name in (condition, OVERALL)
    }


def _interval(pairs: NDArray[np.float64]) -> tuple[float, float]:
    """95 % block bootstrap interval of the mean difference of pairs [N, 2]."""
    gaps = pairs[:, 1] - pairs[:, 0]
    starts = np.random.default_rng(SEED).integers(0, len(gaps), (DRAWS, -(-len(gaps) // BLOCK)))
    rows = (starts[..., None] + np.arange(BLOCK)).reshape(DRAWS, -1)[:, : len(gaps)] % len(gaps)
    low, high = np.percentile(gaps[rows].mean(1), INTERVAL)
    return float(low), float(high)


def _others(name: str, a: Results, b: Results) -> list[Difference]:
    """Figures without intervals."""

    def at(values: Results, path: str) -> float | None:
        entry: Any = values
        for key in path.split("."):
            entry = None if entry is None else entry.get(key)
        return cast("float | None", entry)

    return [Difference(name, title, at(a, path), at(b, path)) for title, path in OTHERS.items()]
