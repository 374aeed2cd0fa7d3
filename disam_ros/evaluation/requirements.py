# SPDX-License-Identifier: Apache-2.0
"""What every condition of an evaluation has to reach, such as `r1@5m>=85, wrong<=1%, p99<=60ms`."""

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
    """A bound on a figure of every condition. unit: of figure and limit."""

    text: str
    figure: Figure
    at_least: bool
    limit: float
    unit: str

    def is_met(self, condition: Condition) -> bool:
        """False where there is no data, too."""
        value = self.figure(condition)
        return value >= self.limit if self.at_least else value <= self.limit


def parse_requirements(text: str, criteria: Criteria) -> list[Requirement]:
    """Requirements separated by commas. Raises ConfigError for what is none."""
    return [_requirement(part, criteria) for part in "".join(text.split()).split(",") if part]


def require(evaluation: Evaluation, requirements: Sequence[Requirement]) -> None:
    """Raise RequirementError that names all that is not met, with condition and value."""
    unmet = [
        f"{name}: {wanted.text}, got {wanted.figure(condition):.4g} {wanted.unit}".rstrip()
        for name, condition in evaluation.conditions.items()
        for wanted in requirements
        if not wanted.is_met(condition)
    ]
    if unmet:
        count = "1 requirement is" if len(unmet) == 1 else f"{len(unmet)} requirements are"
        raise RequirementError(f"{count} not met: {'; '.join(unmet)}")


def _requirement(text: str, criteria: Criteria) -> Requirement:
    found = FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"'{text}' is no requirement; expected such as {EXAMPLE}")
    name, at_least = found["name"], found["sign"] == ">="
    figure, unit = _figure(name, criteria)
    if found["unit"] not in ("", unit):
        raise ConfigError(f"'{text}': '{name}' is in {unit or 'no unit'}, got '{found['unit']}'")
    return Requirement(text, figure, at_least, float(found["limit"]), unit)


def _figure(name: str, criteria: Criteria) -> tuple[Figure, str]:
    """The figure of a name, and its unit."""
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
    known: dict[str, tuple[Figure, str]] = {
        "answered": (lambda c: 100 * c.metrics.answered, "%"),
        "wrong": (lambda c: 100 * c.judged.wrong_share, "%"),
        "median": (lambda c: c.metrics.median_error_m, "m"),
        "nees": (lambda c: np.nan if c.consistency is None else c.consistency.pose_mean, ""),
    }
    for p in PERCENTILES:
        known[f"p{p}"] = _latency(f"p{p}"), "ms"
    if name not in known:
        raise ConfigError(f"no figure '{name}' to require; there are such as {EXAMPLE}")
    return known[name]


def _latency(percentile: str) -> Figure:
    return lambda c: c.latency_ms.get("total", {}).get(percentile, np.nan)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
