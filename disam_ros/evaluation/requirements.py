# SPDX-License-Identifier: Apache-2.0
"""Bounds on the figures of every condition, such as `r1@5m>=85, wrong<=1%, p99<=60ms`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from disam_ros.errors import ConfigError, RequirementError
from disam_ros.evaluation.judge import PERCENTILES, Condition, Evaluation
from disam_ros.evaluation.metrics import RANKS, Criteria

NUMBER = r"\d+(?:\.\d+)?"
FORM = re.compile(
    rf"(?P<name>[a-z]+\d*(?:@[\w.°]+)?)(?P<sign>>=|<=)(?P<limit>{NUMBER})(?P<unit>.*)"
)
EXAMPLE = (
    "r1@5m>=85, within@0.5m5deg>=60, answered>=90, wrong<=1%, median<=0.5m, p99<=60ms, nees<=2"
)

Figure = Callable[[Condition], float]


@dataclass(frozen=True)
class Requirement:
    """A bound on a figure of every condition."""

    text: str  # as the user wrote it
    figure: Figure  # reads the figure of a condition
    at_least: bool  # lower bound; False: upper bound
    limit: float  # the bound itself
    unit: str  # of figure and limit

    def is_met(self, condition: Condition) -> bool:
        """Returns whether a condition reaches the bound; False where there is no data."""
        value = self.figure(condition)
        return value >= self.limit if self.at_least else value <= self.limit


def parse_requirements(text: str, criteria: Criteria) -> list[Requirement]:
    """Parses requirements separated by commas. Raises ConfigError for any other text."""
    return [_requirement(part, criteria) for part in "".join(text.split()).split(",") if part]


def require(evaluation: Evaluation, requirements: Sequence[Requirement]) -> None:
    """Raises RequirementError that names all that is not met, with condition and value."""
    unmet = [
        f"{name}: {bound.text}, got {bound.figure(condition):.4g} {bound.unit}".rstrip()
        for name, condition in evaluation.conditions.items()
        for bound in requirements
        if not bound.is_met(condition)
    ]
    if unmet:
        count = "1 requirement is" if len(unmet) == 1 else f"{len(unmet)} requirements are"
        raise RequirementError(f"{count} not met: {'; '.join(unmet)}")


def _requirement(text: str, criteria: Criteria) -> Requirement:
    parts = FORM.fullmatch(text)
    if parts is None:
        raise ConfigError(f"'{text}' is no requirement; expected such as {EXAMPLE}")
    name, at_least = parts["name"], parts["sign"] == ">="
    figure, unit = _figure(name, criteria)
    if parts["unit"] not in ("", unit):
        raise ConfigError(f"'{text}': '{name}' is in {unit or 'no unit'}, got '{parts['unit']}'")
    return Requirement(text, figure, at_least, float(parts["limit"]), unit)


def _figure(name: str, criteria: Criteria) -> tuple[Figure, str]:
    """Returns the figure of a name, and its unit."""
    if match := re.fullmatch(rf"r(\d+)(?:@({NUMBER})m)?", name):
        rank, distance = int(match[1]), float(match[2] or criteria.recall_distance)
        if rank not in RANKS:
            raise ConfigError(f"'{name}': recall is known of the first {_listed(RANKS)} matches")
        if distance != criteria.recall_distance:
            raise ConfigError(f"'{name}' is measured with --recall-distance {distance:g}")
        # A rank beyond the longest ranking would equal that of a shorter one.
        return (
            lambda c: 100 * c.metrics.recall.get(f"R@{rank}", [*c.metrics.recall.values()][-1]),
            "%",
        )
    if match := re.fullmatch(rf"within@({NUMBER})m({NUMBER})(?:deg|°)", name):
        key = f"{float(match[1]):g} m {float(match[2]):g}°"
        if key not in criteria.names():
            raise ConfigError(f"'{name}' is measured with --threshold {match[1]} {match[2]}")
        return lambda c: 100 * c.metrics.within[key], "%"
    figures: dict[str, tuple[Figure, str]] = {
        "answered": (lambda c: 100 * c.metrics.answered, "%"),
        "wrong": (lambda c: 100 * c.judged.wrong_share, "%"),
        "median": (lambda c: c.metrics.median_error_m, "m"),
        "nees": (lambda c: np.nan if c.consistency is None else c.consistency.pose_mean, ""),
    }
    for p in PERCENTILES:
        figures[f"p{p}"] = _latency(f"p{p}"), "ms"
    if name not in figures:
        raise ConfigError(f"no figure '{name}' to require; there are such as {EXAMPLE}")
    return figures[name]


def _latency(percentile: str) -> Figure:
    return lambda c: c.latency_ms.get("total", {}).get(percentile, np.nan)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
