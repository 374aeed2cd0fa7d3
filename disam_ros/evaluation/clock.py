# SPDX-License-Identifier: Apache-2.0
"""Do images and true poses share a clock? An offset shows as an error along the route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import Transform

LIMIT = 5.0  # seconds: no larger offset is looked for
STEP = 0.02  # seconds
FEWEST = 20  # answers without which nothing is estimated
GAIN = 0.8  # the median error must fall below this share of itself


@dataclass(frozen=True)
class ClockOffset:
    """Adding `seconds` to the images' stamps brings the answers nearest to the true track."""

    seconds: float
    median_error_m: float  # with the offset
    median_error_before_m: float


def clock_offset(
    stamps_ns: np.ndarray,
    answers: Sequence[Transform],
    track_ns: np.ndarray,
    track: Sequence[Transform],
) -> ClockOffset | None:
    """The offset that makes the median error smallest; None where it explains nothing.

    stamps_ns: int64 [N] of the answers. track_ns: int64 [M], increasing, of the true poses. The
    median does not mind wrong answers, as long as they are fewer than half.
    """
    if len(answers) < FEWEST or len(track) < 2:
        return None
    origin = int(track_ns[0])
    times = (np.asarray(track_ns) - origin) / 1e9
    asked = (np.asarray(stamps_ns) - origin) / 1e9
    places = np.stack([pose.translation for pose in track])
    given = np.stack([pose.translation for pose in answers])

    def median_error(offset: float) -> float:
        moved = asked + offset
        inside = (moved >= times[0]) & (moved <= times[-1])
        if inside.sum() < max(FEWEST, len(asked) / 2):
            return np.inf
        truth = np.stack([np.interp(moved[inside], times, axis) for axis in places.T], axis=1)
        return float(np.median(np.linalg.norm(given[inside] - truth, axis=1)))

    steps = round(LIMIT / STEP)
    offsets = STEP * np.arange(-steps, steps + 1)
    medians = np.array([median_error(offset) for offset in offsets])
    best, before = int(medians.argmin()), median_error(0.0)
    if not np.isfinite(medians[best]) or medians[best] > GAIN * before:
        return None
    return ClockOffset(float(offsets[best]), float(medians[best]), before)
