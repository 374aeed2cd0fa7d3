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
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform
from disam_ros.mapping.spacing import next_rows
from disam_ros.uncertainty import offsets

METRES_PER_RADIAN = 5.0  # displacement equivalent to a rotation where poses are compared [m/rad]
UNEVEN = 3.0  # largest ratio of the lengths of neighbouring stretches that shape each other
BEND = 0.5  # standard deviation of a pose on the curve, as a share of its distance from the chord
MIN_LENGTH = 1e-3  # of a stretch that has a direction [m]
MAX_TURN = 1.0  # of a stretch that has a curvature [rad]


@dataclass(frozen=True, eq=False)
class Points:
    """Poses map_from_base on the curve, [M, 7] tx ty tz qx qy qz qw. slopes: their derivatives by
    the share of the stretch [M, 6]; bends: their offsets from the chord [M, 6]."""

    poses: NDArray[np.float64]
    slopes: NDArray[np.float64]
    bends: NDArray[np.float64]

    def pose(self, index: int) -> Transform:
        return Transform(self.poses[index, :3], self.poses[index, 3:])


class Curve:
    """poses: map_from_base of the map images in map order, [N, 7] tx ty tz qx qy qz qw. copies: of
    equal length that they consist of, of which each is a map.

    next, before: rows of the neighbours of each image on its drive, −1 for none: int64 [N].
    """

    def __init__(self, poses: NDArray[np.float64], copies: int = 1) -> None:
        self._poses = poses
        parts = [next_rows(part) for part in np.split(poses, copies)]
        self.next = np.concatenate(
            [np.where(p < 0, -1, p + k * len(p)) for k, p in enumerate(parts)]
        )
        self.before = np.full_like(self.next, -1)
        self.before[self.next[self.next >= 0]] = np.flatnonzero(self.next >= 0)

    def points(self, starts: ArrayLike, ends: ArrayLike, shares: ArrayLike) -> Points:
        """On stretches between two neighbours each, all [M].

        shares: 0…1 of the stretch that lies behind the vehicle. ends: the start where there is
        none.
        """
        starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
        share = np.asarray(shares, np.float64)[:, None]
        first = self._poses[starts]
        whole = offsets(self._poses[ends], first)
        leaves = self._tangents(-self._to(self.before[starts], first), whole, self.before[starts])
        arrives = self._to(self.next[ends], first) - whole
        arrives = self._tangents(arrives, whole, self.next[ends]) - whole
        leaves, left = leaves - whole, 1.0 - share
        steps = share * whole + share * left * (left * leaves - share * arrives)
        turning = left * (left - 2.0 * share) * leaves - share * (2.0 * left - share) * arrives
        moves = (starts != ends)[:, None]
        steps, slopes = moves * steps, moves * (whole + turning)
        poses, chords = _retracted(first, steps), _retracted(first, moves * share * whole)
        return Points(poses, slopes, offsets(poses, chords))

    def _to(self, rows: NDArray[np.int64], first: NDArray[np.float64]) -> NDArray[np.float64]:
        """Offsets [M, 6] of map images, any for rows −1, from the first poses [M, 7]."""
        return offsets(self._poses[rows], first)

    def _tangents(
        self, others: NDArray[np.float64], wholes: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Derivatives [M, 6] by the share of stretches, at the end that each has in common with
        another one; along the stretch where there is none, or where both do not shape each other.

        others, wholes: both stretches from end to end [M, 6]; rows: of the other's far end, or −1.
        """
        there, length = _lengths(others), _lengths(wholes)
        shorter, longer = np.minimum(there, length), np.maximum(there, length)
        turn = np.maximum(_norms(wholes[:, 3:]), _norms(others[:, 3:]))
        shaped = (rows >= 0) & (longer <= UNEVEN * shorter)
        shaped &= (length >= MIN_LENGTH) & (turn <= MAX_TURN)
        here, far = length[shaped, None], there[shaped, None]
        tangents = wholes.copy()
        tangents[shaped] = (wholes[shaped] * far / here + others[shaped] * here / far) * (
            here / (here + far)
        )
        return tangents


def _retracted(poses: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """`retract` of many poses [M, 7] at once."""
    turned = Rotation.from_rotvec(steps[:, 3:]) * Rotation.from_quat(poses[:, 3:])
    return np.hstack([poses[:, :3] + steps[:, :3], turned.as_quat()])


def _lengths(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hypot(_norms(steps[:, :3]), METRES_PER_RADIAN * _norms(steps[:, 3:]))


def _norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.linalg.norm(vectors, axis=1)
    return found
