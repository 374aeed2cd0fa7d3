# SPDX-License-Identifier: Apache-2.0
"""Gains of one row over another, seed by seed: runs of one seed share start, data and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

NEAR_CHANCE = 2.0  # points within which a row of both is no better than chance
ABOVE, BELOW, MIXED = "above", "below", "mixed"
ONE, CHANCE, MISSING = "one seed", "near chance", "not measured"


@dataclass(frozen=True)
class Gain:
    """What a row gains over another."""

    points: tuple[float, ...]  # one for each seed that both rows have
    outcome: str  # what the seeds say

    def __str__(self) -> str:
        if not self.points:
            return self.outcome
        return f"{', '.join(signed(value) for value in self.points)}: {self.outcome}"


def signed(points: float) -> str:
    """Writes points with their sign, to a tenth."""
    return f"{points:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def gain(row: Mapping[str, float], other: Mapping[str, float], chance: float = -np.inf) -> Gain:
    """Returns the gain of a row over another. row, other: points by seed. chance: points of a
    random answer."""
    seeds = [seed for seed in row if seed in other]
    points = tuple(row[seed] - other[seed] for seed in seeds)
    if not points:
        return Gain((), MISSING)
    means = (float(np.mean([values[seed] for seed in seeds])) for values in (row, other))
    if all(mean <= chance + NEAR_CHANCE for mean in means):
        return Gain(points, CHANCE)
    if len(points) == 1:
        return Gain(points, ONE)
    if min(points) > 0:
        return Gain(points, ABOVE)
    return Gain(points, BELOW if max(points) < 0 else MIXED)
