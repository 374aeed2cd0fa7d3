# SPDX-License-Identifier: Apache-2.0
"""Motion model of the sequence filter: which map images a motion leads to, and how likely.

Where there is no odometry the forward speed changes slowly. Each state of the filter has the mean
speed of the motions that led to it, merged as the estimates of an interacting multiple model filter
are (Blom and Bar-Shalom, IEEE Transactions on Automatic Control 33, 1988). A place that only
resembles the road is not passed at a steady speed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform, rotation_vectors
from disam_ros.localization.pose import METRES_PER_RADIAN, Curve
from disam_ros.mapping.spacing import longest, neighbour_steps, spacings

TRACKED = 128  # likeliest states that are predicted one by one; the others' share spreads
NEIGHBOURS = 8  # successors of a state in the motion model
REACH = 4.0  # gate of the successors, standard deviations of the motion
MIN_DEVIATION = 0.3  # least standard deviation of the motion model [m]
TURN_RATE = 1.0  # fastest turn of a vehicle, where there is no odometry [rad/s]
TURNED_ALIKE = np.radians(45.0)  # largest difference in heading of images of one place
BEYOND = 64  # stretches of road beyond an end of the map that a motion is followed on, at most
NEXT = 0.9  # least distance of all images from where the next one would be, at an end, in spacings
MIN_CELL = 0.1  # least stretch of road that an image stands for, as of a vehicle at rest [m]
STEADY = 0.9  # share of the motions that keep a speed which is known
MEMORY = 2.0  # time that a speed is averaged over [s]
ACCELERATION = 3.0  # standard deviation of its change [m/s²]
MATCH = 0.5  # least standard deviation of how far apart two matches are [m]


class Transitions:
    """Map images as places on the road.

    poses: map_from_base of the map images in map order, [N, 7] tx ty tz qx qy qz qw. shares: prior
    weights of the copies of equal length that they consist of, of which each is a map.
    """

    def __init__(self, poses: NDArray[np.float64], shares: Sequence[float] = (1.0,)) -> None:
        copies = len(shares)
        self._copies, self._poses, self._positions = copies, poses, poses[:, :3]
        self._matrices = Rotation.from_quat(poses[:, 3:]).as_matrix()
        steps = np.concatenate([neighbour_steps(part) for part in np.split(poses, copies)])
        self._spacing, self._longest = spacings(steps), longest(steps)
        turns = METRES_PER_RADIAN * np.linalg.norm(steps[..., 3:], axis=2).mean(1)
        cells = np.maximum(np.hypot(self._spacing, turns), MIN_CELL)
        cells *= np.repeat(shares, len(poses) // copies)
        self._cells: NDArray[np.float64] = cells / cells.sum()
        self._tree = cKDTree(embedding(self._positions, self._matrices))
        self._curve = Curve(poses, copies)
        self._ends = self._map_ends()

    def __len__(self) -> int:
        return len(self._positions)

    def moved(self, rows: NDArray[np.int64], motion: Transform) -> NDArray[np.int64]:
        """The map image where each of `rows` leads after a motion base_from_next, int64 [n]; −1
        where the map has none."""
        positions = self._positions[rows] + self._matrices[rows] @ motion.translation
        points = embedding(positions, self._matrices[rows] @ motion.rotation)
        gaps, targets = self._query(points, 1, np.inf)
        near = gaps[:, 0] <= np.maximum(self._longest[rows], MIN_CELL)
        return np.where(near, targets[:, 0], -1)

    def _map_ends(self) -> NDArray[np.bool_]:
        """Whether the map ends ahead of each image [N]: it is the last of its drive that way, and
        no image of another drive follows."""
        following, before = self._curve.next, self._curve.before
        last = np.flatnonzero((following < 0) != (before < 0))
        last_but_one = np.maximum(following[last], before[last])
        ahead = self._matrices[last, :, 0]
        step = np.einsum("nd,nd->n", ahead, self._positions[last] - self._positions[last_but_one])
        last, ahead = last[step > 0.0], ahead[step > 0.0]
        reach = np.maximum(self._longest[last], MIN_CELL)
        points = embedding(self._positions[last] + reach[:, None] * ahead, self._matrices[last])
        ends = np.zeros(len(self), bool)
        ends[last] = self._query(points, 1, np.inf)[0][:, 0] >= NEXT * reach
        return ends

    def _moved(
        self, rows: NDArray[np.int64], motion: Transform, noise: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Map images near to where each would have gone, [n, k], and their weights."""
        positions = self._positions[rows] + self._matrices[rows] @ motion.translation
        points = embedding(positions, self._matrices[rows] @ motion.rotation)
        drift = noise * float(np.linalg.norm(motion.translation))
        widest = np.hypot(max(self._longest.max() / 2, MIN_DEVIATION), drift)
        gaps, targets = self._query(points, NEIGHBOURS, REACH * widest)
        between = self._between(rows, targets) / 2
        deviations = np.hypot(np.maximum(between, MIN_DEVIATION), drift)
        weights = np.exp(-0.5 * (gaps / deviations) ** 2)
        return targets, np.where(gaps <= REACH * deviations, weights, 0.0) * self._cells_of(targets)

    def _reachable(
        self, rows: NDArray[np.int64], metres: float, seconds: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Map images within reach of each, [n, k], and their weights; the vehicle turns at
        TURN_RATE at most.

        The probability that a motion of at most `metres`, all equally likely, leads from somewhere
        in the stretch of one image to the stretch of the other: these have the width of the spacing
        between them, so that their distance is triangularly distributed about that of the images.
        """
        steps = (metres / np.maximum(self._longest[rows], MIN_CELL)).max() + 1.0
        count = int(np.clip(self._copies * (2 * steps + 1), NEIGHBOURS, TRACKED))
        gaps, targets = self._query(
            self._tree.data[rows], count, metres + self._longest.max() + 1e-3
        )
        shares = _shares(gaps, self._between(rows, targets), metres)
        ahead = np.append(self._matrices[:, :, 0], np.zeros((1, 3)), axis=0)
        cosines = np.einsum("nd,nkd->nk", ahead[rows], ahead[targets])
        turns = np.cos(min(np.pi, TURNED_ALIKE + TURN_RATE * seconds))
        possible = np.isfinite(gaps) & (cosines >= turns - 1e-9)
        return targets, np.where(possible, shares, 0.0) * self._cells_of(targets)

    def _beyond(
        self, rows: NDArray[np.int64], metres: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far stretches beyond an end of the map lie ahead of each image [n, k] [m], and their
        weights as of `_reachable`: the road goes on there with the spacing of the map."""
        count = 0
        if self._ends[rows].any():
            count = int(min(BEYOND, metres / max(self._longest[rows].min(), MIN_CELL) + 2.0))
        spacing = self._longest[rows][:, None]
        ahead = spacing * np.arange(1, count + 1)
        weights = _shares(ahead, spacing, metres) * self._cells[rows][:, None]
        return ahead, weights * self._ends[rows][:, None]

    def _ahead(self, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """How far the images near each lie ahead of it, [n, k] [m]."""
        positions = self._positions[np.minimum(targets, len(self) - 1)]
        steps = positions - self._positions[rows][:, None]
        ahead: NDArray[np.float64] = np.einsum("nki,ni->nk", steps, self._matrices[rows, :, 0])
        return ahead

    def _between(self, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Spacing between images and those near each, [n, k] [m]."""
        at_targets = np.append(self._longest, 0.0)[targets]
        mean: NDArray[np.float64] = (self._longest[rows][:, None] + at_targets) / 2
        return mean

    def _cells_of(self, targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Shares of the road of target images, [n, k]; 0 where there is none."""
        shares: NDArray[np.float64] = np.append(self._cells, 0.0)[targets]
        return shares

    def _query(
        self, points: NDArray[np.float64], count: int, reach: float
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        gaps, targets = self._tree.query(points, min(count, len(self)), distance_upper_bound=reach)
        shape = len(points), min(count, len(self))
        return gaps.reshape(shape), targets.reshape(shape)


def embedding(
    positions: NDArray[np.float64], rotations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Positions [N, 3] and rotations [N, 3, 3] of the base → points [N, 5] whose distance is that
    of places; turns count METRES_PER_RADIAN, heights nothing."""
    ahead = rotations[:, :, 0]
    return np.hstack([positions[:, :2], METRES_PER_RADIAN * ahead])


def displacement(motion: Transform) -> float:
    """Displacement of a motion [m], of which its turn is part."""
    turn = rotation_vectors(motion.quaternion)
    return float(np.linalg.norm(motion.translation) + METRES_PER_RADIAN * np.linalg.norm(turn))


def _shares(
    gaps: NDArray[np.float64], spacing: NDArray[np.float64], metres: float
) -> NDArray[np.float64]:
    """Shares of the motions of at most `metres` that lead from one stretch of road to another.

    gaps: from middle to middle [m]; spacing: length of both [m].
    """
    width = np.maximum(spacing, MIN_CELL)
    reach = np.maximum(metres, 1e-3 * width)
    return _triangular((gaps + reach) / width) - _triangular((gaps - reach) / width)


def _triangular(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative distribution of the difference of two positions, each uniform in a unit cell."""
    tail = 0.5 * np.square(1.0 - np.minimum(np.abs(x), 1.0))
    cumulative: NDArray[np.float64] = np.where(x < 0, tail, 1.0 - tail)
    return cumulative


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
