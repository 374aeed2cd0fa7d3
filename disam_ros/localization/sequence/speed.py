# SPDX-License-Identifier: Apache-2.0
"""Forward speed of the vehicle where there is no odometry: it changes slowly.

Each state of the filter has the mean speed of the motions that led to it, merged as the estimates
of an interacting multiple model filter are (Blom and Bar-Shalom, IEEE Transactions on Automatic
Control 33, 1988). A place that only resembles the road is not passed at a steady speed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEADY = 0.9  # share of the motions that keep a speed which is known
MEMORY = 2.0  # time that a speed is averaged over [s]
ACCELERATION = 3.0  # standard deviation of its change [m/s²]
MATCH = 0.5  # least standard deviation of how far apart two matches are [m]


class Speeds:
    """Speeds [m/s] at `count` states; unknown at first."""

    def __init__(self, count: int) -> None:
        self._mean: NDArray[np.float64] = np.zeros(count)
        self._seconds: NDArray[np.float64] = np.zeros(count)  # for which it was observed

    def forget(self) -> None:
        """All speeds are unknown."""
        self._mean[:] = self._seconds[:] = 0.0

    def weights(
        self,
        rows: NDArray[np.int64],
        weights: NDArray[np.float64],
        ahead: NDArray[np.float64],
        spacing: NDArray[np.float64],
        seconds: float,
    ) -> NDArray[np.float64]:
        """Probabilities [n, k] of motions from states `rows` [n]; zeros where none is possible.

        weights: of motions of any speed; ahead: their forward part [m]; spacing: between map images
        there [m]; seconds: that they take.
        """
        deviation = np.hypot(np.maximum(spacing / 2, MATCH), ACCELERATION * seconds**2)
        gaps = (ahead - self._mean[rows, None] * seconds) / deviation
        any_speed, kept = _normalized(weights), _normalized(weights * np.exp(-0.5 * gaps**2))
        share = STEADY * self._seconds[rows] / (self._seconds[rows] + MEMORY)
        share = np.where(kept.any(1), share, 0.0)[:, None]
        mixed: NDArray[np.float64] = (1.0 - share) * any_speed + share * kept
        return mixed

    def move(
        self,
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        moved: NDArray[np.float64],
        ahead: NDArray[np.float64],
        seconds: float,
    ) -> None:
        """Take the speeds along. moved: probability [n, k] of having gone from `rows` [n] to
        `targets` [n, k], `ahead` forward [m]."""
        if seconds <= 0.0:
            return
        before, seconds_seen = self._mean[rows, None], self._seconds[rows, None]
        gain = seconds / (np.minimum(seconds_seen, MEMORY) + seconds)
        speed = before + gain * (ahead / seconds - before)
        arrived = self._sums(targets, moved)
        self._mean = self._sums(targets, moved * speed) / arrived
        self._seconds = self._sums(targets, moved * (seconds_seen + seconds)) / arrived

    def keep(self, shares: NDArray[np.float64]) -> None:
        """shares: of each state's probability that came there by a motion; the rest came from
        anywhere, at an unknown speed."""
        self._seconds *= shares

    def _sums(self, targets: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of values by state; not zero."""
        count = len(self._mean)
        sums = np.bincount(targets.ravel(), values.ravel(), count + 1)[:count]
        return np.where(sums == 0.0, 1e-300, sums)


def _normalized(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with sum 1, or zeros."""
    scaled: NDArray[np.float64] = weights / np.maximum(weights.sum(1, keepdims=True), 1e-300)
    return scaled
