# SPDX-License-Identifier: Apache-2.0
"""Offset between the clocks of two tracks of one drive, by the turns of the vehicle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import correlate
from scipy.spatial.transform import Rotation

from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS, Track

PERIOD = 0.05  # between two samples of a turn rate [s]
SMOOTH = 0.5  # time over which turn rates are averaged [s]
OVERLAP = 0.5  # least share of the shorter track that both have in common
LEAST = 0.7  # correlation below which two tracks are not of one drive
AMBIGUOUS = 0.1  # least lead of the best offset over others
PEAK = 3.0  # time around the best offset that belongs to it [s]
LONGEST = 2e5  # duration of a track [s]
LEAST_TURNS = 0.05  # root mean square of turn rates in a track with bends [rad/s]
MIRRORED = (
    "the trajectory turns left where the odometry turns right: is it left-handed, or is its z axis "
    "down? Convert it to a right-handed frame with z up"
)


def clock_offset(track: Track, reference: Track) -> float:
    """Seconds to add to the stamps of `track` to have the clock of `reference`.

    Poses are of bodies whose z axes are up. The offset is where the turn rates about z correlate
    best, to some hundredths of a second. Raises DatasetError where no offset does clearly, or where
    one track mirrors the other.
    """
    (start, turns), (since, others) = _turn_rates(*track), _turn_rates(*reference)
    least = int(OVERLAP * min(len(turns), len(others)))
    product = correlate(others, turns, "full")
    common = correlate(np.ones(len(others)), np.ones(len(turns)), "full")
    energy = correlate(others**2, np.ones(len(turns)), "full")
    energy = energy * correlate(np.ones(len(others)), turns**2, "full")
    correlation = product / np.sqrt(np.maximum(energy, 1e-12 * energy.max() + 1e-30))
    correlation[common.round() < least] = 0.0
    best = int(np.argmax(correlation))
    if correlation.min() < -max(LEAST, correlation[best]):
        raise DatasetError(MIRRORED)
    beside = np.abs(np.arange(len(correlation)) - best) * PERIOD > PEAK
    second = correlation[beside].max(initial=0.0)
    if correlation[best] < LEAST or correlation[best] - second < AMBIGUOUS:
        raise DatasetError(
            f"the turns of trajectory and odometry do not tell the time offset (correlation "
            f"{correlation[best]:.2f}, elsewhere {second:.2f}; expected {LEAST:g} and clearly "
            f"less elsewhere); are both of one drive, with bends? Give --time-offset in seconds"
        )
    lag = best - (len(turns) - 1) + _vertex(correlation, best)
    return (since - start) / NANOSECONDS + lag * PERIOD


def require_same_hand(track: Track, reference: Track) -> None:
    """Raise DatasetError where a track, on the clock of `reference`, mirrors it.

    Tracks too short or too straight, or of other drives, say nothing.
    """
    if min(np.ptp(stamps) for stamps, _ in (track, reference)) < 2 * PEAK * NANOSECONDS:
        return
    (start, turns), (since, others) = _turn_rates(*track), _turn_rates(*reference)
    moments = np.arange(len(turns)) * PERIOD + (start - since) / NANOSECONDS
    common = (moments >= 0) & (moments <= (len(others) - 1) * PERIOD)
    if common.sum() * PERIOD < 2 * PEAK:
        return
    expected = np.interp(moments[common], np.arange(len(others)) * PERIOD, others)
    rates = turns[common]
    sizes = np.sqrt(np.mean(rates**2)), np.sqrt(np.mean(expected**2))
    if min(sizes) > LEAST_TURNS and np.mean(rates * expected) < -LEAST * sizes[0] * sizes[1]:
        raise DatasetError(MIRRORED)


def _turn_rates(
    stamps: NDArray[np.int64], poses: Sequence[Transform]
) -> tuple[int, NDArray[np.float64]]:
    """First stamp, and turn rate about z [rad/s] every PERIOD, smoothed."""
    turns = Rotation.from_quat(np.stack([pose.quaternion for pose in poses]))
    steps = (turns[:-1].inv() * turns[1:]).as_rotvec()[:, 2]
    yaw = np.concatenate([[0.0], np.cumsum(steps)])
    seconds = (stamps - stamps[0]) / NANOSECONDS
    if seconds[-1] < 2 * PEAK:
        raise DatasetError(
            f"a track of {seconds[-1]:.1f} s is too short to find a time offset, expected "
            f"{2 * PEAK:g} s: give --time-offset in seconds"
        )
    if seconds[-1] > LONGEST:
        raise DatasetError(
            f"a track of {seconds[-1]:.0f} s is too long to find a time offset, expected at most "
            f"{LONGEST:g} s: are its stamps of one drive? Give --time-offset in seconds"
        )
    grid = np.arange(0.0, seconds[-1], PERIOD)
    rates = np.diff(np.interp(grid, seconds, yaw)) / PERIOD
    return int(stamps[0]), uniform_filter1d(rates, round(SMOOTH / PERIOD))


def _vertex(values: NDArray[np.float64], best: int) -> float:
    """Fraction of a sample from the largest value to the parabola's vertex through it."""
    if not 0 < best < len(values) - 1:
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0
