# SPDX-License-Identifier: Apache-2.0
"""Comparison of two evaluations: differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from disam_ros.errors import DatasetError
from disam_ros.evaluation.judge import OVERALL
from disam_ros.localization.answer import KNOWN

BLOCK = 10  # consecutive frames resampled together: neighbours in time are correlated
DRAWS = 2000  # bootstrap samples
SEED = 0
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Difference:
    """A figure of two evaluations, and the 95 % interval (low, high) of b − a.

    The interval is over their common frames; None where frames cannot be paired.
    """

    condition: str
    figure: str
    a: float | None
    b: float | None
    low: float | None = None
    high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and not self.low <= 0.0 <= self.high


def compare(a: dict, b: dict) -> list[Difference]:
    """Differences of two results.json, condition by condition.

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
    found: list[Difference] = []
    for name in common:
        found += _shares(name, a, b)
        found += _others(name, a["conditions"][name], b["conditions"][name])
    if common == list(a["conditions"]) == list(b["conditions"]) and len(common) > 1:
        found += _shares(OVERALL, a, b)
        found += _others(OVERALL, a[OVERALL], b[OVERALL])
    return found


def comparison_table(a: dict, b: dict, names: tuple[str, str]) -> Table:
    """The differences for a terminal. names: of the two evaluations."""
    table = Table(title=f"{names[1]} against {names[0]}", title_justify="left")
    table.add_column("condition", no_wrap=True)
    table.add_column("figure")
    for column in (*names, "difference", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    before = ""
    for d in compare(a, b):
        scale = 100 if _is_share(d.figure) else 1
        style = ("green" if d.low > 0 else "red") if d.clear else ""
        interval = "" if d.low is None else f"{scale * d.low:+.1f} … {scale * d.high:+.1f}"
        change = "" if None in (d.a, d.b) else f"{scale * (d.b - d.a):+.2f}"
        cells = ["–" if v is None else f"{scale * v:.2f}" for v in (d.a, d.b)]
        shown = d.condition if d.condition != before else ""
        table.add_row(shown, d.figure, *cells, change, interval, style=style)
        before = d.condition
    return table


def _shares(name: str, a: dict, b: dict) -> list[Difference]:
    """Shares within the pose thresholds and at the recall distance, with intervals."""
    criteria, found = a["criteria"], []
    tests: dict[str, Callable[[float, float], bool]] = {
        f"within {m:g} m {d:g}°, %": lambda metres, degrees, m=m, d=d: metres <= m and degrees <= d
        for m, d in criteria["thresholds"]
    }
    distance = criteria["recall_distance"]
    tests[f"R@1 {distance:g} m, %"] = lambda metres, degrees: metres <= distance
    for figure, right in tests.items():
        one, two = _right(a, name, right), _right(b, name, right)
        shares = [float(np.mean(list(r.values()))) if r else None for r in (one, two)]
        pairs = [(one[key], two[key]) for key in one if key in two]
        low, high = _interval(np.array(pairs, float)) if len(pairs) >= BLOCK else (None, None)
        found.append(Difference(name, figure, *shares, low, high))
    return found


def _right(
    values: dict, name: str, within: Callable[[float, float], bool]
) -> dict[tuple[str, str, int], bool]:
    """(condition, camera, stamp) → whether a frame with a true pose was answered correctly."""
    columns = ("condition", "camera", "stamp_ns", "outcome", "error_m", "error_deg", "judged")
    rows = zip(*(values["frames"][column] for column in columns), strict=True)
    return {
        (condition, camera, stamp): outcome == KNOWN and metres is not None and within(metres, turn)
        for condition, camera, stamp, outcome, metres, turn, judged in rows
        if judged and name in (condition, OVERALL)
    }


def _interval(pairs: np.ndarray) -> tuple[float, float]:
    """95 % block bootstrap interval of the mean difference of pairs [N, 2]."""
    gaps = pairs[:, 1] - pairs[:, 0]
    starts = np.random.default_rng(SEED).integers(0, len(gaps), (DRAWS, -(-len(gaps) // BLOCK)))
    rows = (starts[..., None] + np.arange(BLOCK)).reshape(DRAWS, -1)[:, : len(gaps)] % len(gaps)
    low, high = np.percentile(gaps[rows].mean(1), INTERVAL)
    return float(low), float(high)


def _others(name: str, a: dict, b: dict) -> list[Difference]:
    """Figures without intervals."""

    def at(values: dict, *path: str) -> float | None:
        for key in path:
            values = None if values is None else values.get(key)
        return values

    figures = {
        "answered, %": ("metrics", "answered"),
        "median error, m": ("metrics", "median_error_m"),
        "90 % of errors below, m": ("metrics", "p90_error_m"),
        "recall at 100 % precision, %": ("precision_recall", "recall_at_full_precision"),
        "area under PR, %": ("precision_recall", "area"),
        "position NEES, mean": ("consistency", "position_mean"),
        "latency p50, ms": ("latency_ms", "total", "p50"),
        "latency p99, ms": ("latency_ms", "total", "p99"),
    }
    return [Difference(name, key, at(a, *path), at(b, *path)) for key, path in figures.items()]


def _is_share(figure: str) -> bool:
    return figure.endswith("%")
