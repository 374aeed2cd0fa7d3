# SPDX-License-Identifier: Apache-2.0
"""Bayes filter over map images: motion model, image likelihoods, belief.

The state is one of the map images, or none of them (off the map). A step predicts with the motion
since the last image, from odometry where there is any, and updates with a log likelihood ratio per
map image: how much likelier the image's score is at that place than elsewhere (calibration.py). Off
the map every score is as likely as elsewhere. The belief stays multimodal until images resolve it;
a small share jumps anywhere, so that the filter recovers from kidnapping and from wrong beliefs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform

METRES_PER_RADIAN = 5.0  # displacement equivalent to a rotation when states are compared [m/rad]
TRACKED = 128  # likeliest states that are predicted one by one; the others' share spreads
NEIGHBOURS = 8  # successors of a state in the motion model
REACH = 4.0  # gate of the successors, standard deviations of the motion
MIN_DEVIATION = 0.3  # least standard deviation of the motion model [m]
SAME_HEADING = np.radians(45.0)  # largest difference in heading of images of one place
DETAILED = 10  # states of the likeliest place that `detail` chooses among, at most


@dataclass(frozen=True)
class FilterModel:
    """Constants of the filter, chosen on validation drives.

    step: displacement after which an image is new evidence, where there is odometry [m]. evidence:
    exponent of the image likelihood; < 1 because consecutive images are correlated. jump, leave,
    back: probability per step of being anywhere, of leaving the map, of coming back. off_map:
    prior probability of being off the map. radius: images within it show one place [m].
    """

    step: float = 0.5
    evidence: float = 0.6
    jump: float = 0.01
    leave: float = 0.01
    back: float = 0.1
    off_map: float = 0.5
    radius: float = 5.0


@dataclass(frozen=True)
class MotionModel:
    """max_speed: of the vehicle, where there is no odometry [m/s]. odometry_noise: standard
    deviation of odometry per distance driven [m/m]."""

    max_speed: float = 20.0
    odometry_noise: float = 0.1


@dataclass(frozen=True)
class Belief:
    """Mode of the belief.

    row: the likeliest map image. map_from_base: probability-weighted mean of the images of its
    place; it may lie between images. probability: of that place. on_map: of being anywhere on the
    map. covariance: [6, 6] of those images about the mean (uncertainty.py).
    """

    row: int
    map_from_base: Transform
    probability: float
    on_map: float
    covariance: NDArray[np.float64]


class SequenceFilter:
    """poses: map_from_base of the map images, [N, 7] tx ty tz qx qy qz qw; spacing: metres between
    neighbouring ones."""

    def __init__(
        self, poses: NDArray[np.float64], spacing: float, model: FilterModel | None = None
    ) -> None:
        self._positions, self._rotations = poses[:, :3], Rotation.from_quat(poses[:, 3:])
        self._matrices = self._rotations.as_matrix()
        self._model, self._spacing = model or FilterModel(), spacing
        self._tree = cKDTree(_embedding(self._positions, self._matrices))
        self.reset()

    def __len__(self) -> int:
        return len(self._positions)

    def reset(self) -> None:
        """Forget everything: all places are equally likely."""
        on_map = 1.0 - self._model.off_map
        self._belief: NDArray[np.float64] = np.full(len(self), on_map / len(self))
        self._off = self._model.off_map
        self._pending, self._uniform = Transform.identity(), True

    @property
    def tracked(self) -> NDArray[np.int64]:
        """Rows of the likeliest map images, int64 [≤ TRACKED]."""
        count = min(TRACKED, len(self))
        return np.argpartition(-self._belief, count - 1)[:count]

    def likeliest(self, count: int) -> NDArray[np.int64]:
        """Rows of map images for geometric verification, int64 [≤ count].

        Alternates between the likeliest remaining image and the likeliest of the next mode, so that
        few rows cover both the competing places and the likeliest one.
        """
        rows = self.tracked
        rows = rows[np.argsort(-self._belief[rows])]
        in_turns = chain.from_iterable(zip_longest(rows, self._modes(rows, count)))
        return np.array(list(dict.fromkeys(r for r in in_turns if r is not None))[:count])

    def _modes(self, rows: NDArray[np.int64], count: int) -> list[int]:
        """Of rows, best first, those farther than twice the radius from all better ones."""
        modes: list[int] = []
        while len(rows) and len(modes) < count:
            modes.append(rows[0])
            gaps = np.linalg.norm(self._tree.data[rows] - self._tree.data[rows[0]], axis=1)
            rows = rows[gaps > 2 * self._model.radius]
        return modes

    def predict(
        self, base_from_next: Transform | None, seconds: float, motion: MotionModel | None = None
    ) -> bool:
        """Motion update. base_from_next: odometry since the last call; None: unknown.

        seconds: since the last call; without odometry the vehicle may have gone forth or back at
        its largest speed. Returns whether the next image is new evidence: displacements below
        `FilterModel.step` accumulate until they reach it.
        """
        motion = motion or MotionModel()
        if self._uniform:  # no motion changes what is equally likely
            return True
        if base_from_next is not None:
            self._pending = self._pending @ base_from_next
            if not self._far(self._pending):
                return False
            base_from_next = self._pending
        self._pending = Transform.identity()
        self._propagate(base_from_next, seconds, motion)
        return True

    def _far(self, motion: Transform) -> bool:
        turn = METRES_PER_RADIAN * Rotation.from_quat(motion.quaternion).magnitude()
        return bool(np.linalg.norm(motion.translation) + turn >= self._model.step)

    def _propagate(
        self, base_from_next: Transform | None, seconds: float, motion: MotionModel
    ) -> None:
        rows = self.tracked
        shares = self._belief[rows]
        others = max(0.0, float(self._belief.sum() - shares.sum()))
        if base_from_next is None:
            found, weights = self._reachable(rows, motion.max_speed * max(0.0, seconds))
        else:
            found, weights = self._moved(rows, base_from_next, motion.odometry_noise)
        totals = weights.sum(1)
        arrives = totals > 0
        moved = weights[arrives] * (shares[arrives] / totals[arrives])[:, None]
        belief = np.bincount(found[arrives].ravel(), moved.ravel(), len(self) + 1)[:-1]
        left = float(shares[~arrives].sum())  # moved to where the map has no image
        self._mix(belief.astype(np.float64, copy=False), others, left)

    def update(
        self, rows: NDArray[np.int64], ratios: NDArray[np.float64], floor: float, new: float = 1.0
    ) -> None:
        """Measurement update. ratios: log likelihood ratios of map images `rows` [n]; floor: of all
        others; new: share of the image that is independent of earlier ones, 0…1. Ratios that are
        not finite count as `floor`."""
        self._uniform = False
        weight = self._model.evidence * new
        logs = np.full(len(self), floor)
        logs[rows] = np.nan_to_num(ratios, nan=floor, posinf=floor, neginf=floor)
        self._belief *= np.exp(weight * logs)
        total = self._belief.sum() + self._off
        self._belief /= total
        self._off /= total

    def belief(
        self, detail: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None
    ) -> Belief:
        """The likeliest place.

        detail: rows [n] → log-weights [n] that refine the pose among the likeliest images of that
        place; its probability stays.
        """
        row = int(self._belief.argmax())
        around = self._around(row)
        mass = float(self._belief[around].sum())
        if detail is not None:
            around = around[np.argsort(-self._belief[around])[:DETAILED]]
        logs = np.log(self._belief[around].clip(1e-300))
        if detail is not None:
            logs = logs + detail(around)
            row = int(around[logs.argmax()])
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        position = weights @ self._positions[around]
        rotation = self._rotations[around].mean(weights)
        offsets = np.hstack(
            [
                self._positions[around] - position,
                (self._rotations[around] * rotation.inv()).as_rotvec(),
            ]
        )
        spread = (weights[:, None] * offsets).T @ offsets
        return Belief(
            row=row,
            map_from_base=Transform(position, rotation.as_quat()) @ self._pending,
            probability=mass,
            on_map=1.0 - self._off,
            covariance=spread,
        )

    def _around(self, row: int) -> NDArray[np.int64]:
        """Map images within `radius` and SAME_HEADING: the same place."""
        reach = np.hypot(self._model.radius, METRES_PER_RADIAN * 2 * np.sin(SAME_HEADING / 2))
        found = self._tree.query_ball_point(self._tree.data[row], reach + 1e-6)
        rows: NDArray[np.int64] = np.array(found, dtype=np.int64)
        near = np.linalg.norm(self._positions[rows] - self._positions[row], axis=1)
        ahead = self._matrices[rows, :, 0] @ self._matrices[row, :, 0]
        same: NDArray[np.bool_] = (near <= self._model.radius) & (ahead > np.cos(SAME_HEADING))
        return rows[same]

    def _moved(
        self, rows: NDArray[np.int64], motion: Transform, noise: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Map images near to where each would have gone, [n, k], and their weights."""
        positions = self._positions[rows] + self._matrices[rows] @ motion.translation
        targets = _embedding(positions, self._matrices[rows] @ motion.rotation)
        travelled = float(np.linalg.norm(motion.translation))
        deviation = np.hypot(max(self._spacing / 2, MIN_DEVIATION), noise * travelled)
        gaps, found = self._query(targets, NEIGHBOURS, REACH * deviation)
        weights: NDArray[np.float64] = np.exp(-0.5 * (gaps / deviation) ** 2)
        return found, weights

    def _reachable(
        self, rows: NDArray[np.int64], metres: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Map images within reach of each, [n, k], and their weights: all equal."""
        reach = metres + self._spacing / 2
        steps = reach / max(self._spacing, 1e-3)
        count = int(np.clip(2 * steps + 3, NEIGHBOURS, TRACKED))
        gaps, found = self._query(self._tree.data[rows], count, max(reach, 1e-3))
        return found, np.isfinite(gaps).astype(np.float64)

    def _query(
        self, points: NDArray[np.float64], count: int, reach: float
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        gaps, found = self._tree.query(points, min(count, len(self)), distance_upper_bound=reach)
        return gaps.reshape(len(points), -1), found.reshape(len(points), -1)

    def _mix(self, belief: NDArray[np.float64], others: float, left: float) -> None:
        """Transitions to anywhere on the map, off it and back; normalizes."""
        model = self._model
        on_map = float(belief.sum())
        anywhere = others + model.jump * on_map + model.back * self._off
        self._belief = belief * (1.0 - model.jump - model.leave) + anywhere / len(self)
        self._off = self._off * (1.0 - model.back) + left + model.leave * on_map
        total = self._belief.sum() + self._off
        self._belief /= total
        self._off /= total


def _embedding(
    positions: NDArray[np.float64], rotations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Positions [N, 3] and rotations [N, 3, 3] of the base → points [N, 5] whose distance is that
    of places; turns count METRES_PER_RADIAN, heights nothing."""
    ahead = rotations[:, :, 0]
    return np.hstack([positions[:, :2], METRES_PER_RADIAN * ahead])
