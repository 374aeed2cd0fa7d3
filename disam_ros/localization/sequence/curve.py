# SPDX-License-Identifier: Apache-2.0
"""The mapping vehicle's track between its images: a smooth curve through their poses.

A cubic Hermite spline through four poses, its tangents those of parabolas through three (Catmull
and Rom 1974, at uneven distances). On KITTI odometry 00 with an image every 6.2 m, the true poses
between the images are 0.018 m aside of it and turned by 0.27° (root mean square), from the chords
0.066 m and 0.69° (benchmark/accuracy/kitti.py). How far the spline leaves the chord tells how far
the road may leave the spline; the share, BEND, was chosen on that drive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import Transform, interpolate
from disam_ros.mapping.spacing import next_rows
from disam_ros.uncertainty import offset, retract

METRES_PER_RADIAN = 5.0  # displacement equivalent to a rotation where poses are compared [m/rad]
UNEVEN = 3.0  # largest ratio of the lengths of neighbouring stretches that shape each other
BEND = 0.5  # standard deviation of a pose on the curve, as a share of its distance from the chord
MIN_LENGTH = 1e-3  # of a stretch that has a direction [m]
MAX_TURN = 1.0  # of a stretch that has a curvature [rad]


@dataclass(frozen=True, eq=False)
class Point:
    """A pose map_from_base on the curve. slope: its derivative by the share of the stretch [6];
    bend: its offset from the chord [6]."""

    pose: Transform
    slope: NDArray[np.float64]
    bend: NDArray[np.float64]


class Curve:
    """poses: map_from_base of the map images in map order, [N, 7] tx ty tz qx qy qz qw.

    next, before: rows of the neighbours of each image on its drive, −1 for none: int64 [N].
    """

    def __init__(self, poses: NDArray[np.float64]) -> None:
        self._poses = poses
        self.next = next_rows(poses)
        self.before = np.full_like(self.next, -1)
        self.before[self.next[self.next >= 0]] = np.flatnonzero(self.next >= 0)

    def pose(self, row: int) -> Transform:
        """That of a map image."""
        return Transform(self._poses[row, :3], self._poses[row, 3:])

    def between(self, start: int, end: int, share: float) -> Point:
        """On the stretch between two neighbours.

        share: 0…1 of the stretch that lies behind the vehicle. end: start where there is none.
        """
        first = self.pose(start)
        if start == end:
            return Point(first, np.zeros(6), np.zeros(6))
        step, slope = self._step(first, start, end, share)
        pose = retract(first, step)
        chord = interpolate(first, self.pose(end), share)
        return Point(pose, slope, offset(pose, chord))

    def _step(
        self, first: Transform, start: int, end: int, share: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From the first pose to that on the curve, and its derivative by the share [6]."""
        whole = offset(self.pose(end), first)
        length = _length(whole)
        leaves = arrives = whole
        if (row := int(self.before[start])) >= 0:
            leaves = _tangent(-offset(self.pose(row), first), whole, length)
        if (row := int(self.next[end])) >= 0:
            arrives = _tangent(offset(self.pose(row), first) - whole, whole, length)
        leaves, arrives, left = leaves - whole, arrives - whole, 1.0 - share
        step = share * whole + share * left * (left * leaves - share * arrives)
        turning = left * (left - 2.0 * share) * leaves - share * (2.0 * left - share) * arrives
        return step, whole + turning


def _tangent(
    other: NDArray[np.float64], whole: NDArray[np.float64], length: float
) -> NDArray[np.float64]:
    """Derivative by the share of a stretch, at its end that it has in common with another one.

    other, whole: both stretches from end to end [6]; length: of this one.
    """
    there = _length(other)
    uneven = max(there, length) > UNEVEN * min(there, length)
    turn = max(np.linalg.norm(whole[3:]), np.linalg.norm(other[3:]))
    if uneven or length < MIN_LENGTH or turn > MAX_TURN:
        return whole
    tangent: NDArray[np.float64] = (whole * there / length + other * length / there) * (
        length / (length + there)
    )
    return tangent


def _length(step: NDArray[np.float64]) -> float:
    return float(np.hypot(np.linalg.norm(step[:3]), METRES_PER_RADIAN * np.linalg.norm(step[3:])))
