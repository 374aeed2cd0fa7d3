# SPDX-License-Identifier: Apache-2.0
"""Where the vehicle is after a sequence of images: an online Bayes filter over the map images.

The state is one of the map images, or none of them (off the map). A step takes the vehicle's motion
since the last one, from odometry where there is any, and then what the image says of each map
image: the logarithm of how much likelier its score is at the place of that image than elsewhere
(calibration.py). Off the map every score is as likely as elsewhere. Several places stay in the
belief as long as the images do not tell them apart; a small share jumps anywhere, which is how the
filter recovers when the vehicle was carried away or the belief was wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.config import FilterConfig
from disam_ros.geometry import Transform

METRES_PER_RADIAN = 5.0  # a turn counts as so much displacement when states are compared
FOLLOWED = 128  # likeliest map images whose motion is followed; the others' share spreads
NEIGHBOURS = 8  # map images that a moved one may become
REACH = 4.0  # standard deviations of the motion up to which they are sought
LEAST_DEVIATION = 0.3  # metres
SAME_HEADING = np.radians(45.0)  # of images that show one place
LOOKED_AT = 10  # of them, at most, for the details


@dataclass(frozen=True)
class Belief:
    """What the filter holds to be true.

    row: the likeliest map image. map_from_base: mean of the images around it, by their
    probabilities: it may lie between images. probability: that the vehicle is there, within
    `FilterConfig.radius`. on_map: that it is anywhere on the map. covariance: [6, 6] of the pose,
    if it is there, order x y z rotX rotY rotZ about the map's axes (REP-103).
    """

    row: int
    map_from_base: Transform
    probability: float
    on_map: float
    covariance: np.ndarray


class SequenceFilter:
    """poses: map_from_base of the map images, [N, 7] tx ty tz qx qy qz qw; spacing: metres between
    neighbouring ones."""

    def __init__(self, poses: np.ndarray, spacing: float, config: FilterConfig) -> None:
        self._positions, self._rotations = poses[:, :3], Rotation.from_quat(poses[:, 3:])
        self._matrices = self._rotations.as_matrix()
        self.config, self._spacing = config, spacing
        self._tree = cKDTree(_embedding(self._positions, self._matrices))
        self.reset()

    def __len__(self) -> int:
        return len(self._positions)

    def reset(self) -> None:
        """Forget everything: all places are equally likely."""
        on_map = 1.0 - self.config.off_map
        self._belief, self._off = np.full(len(self), on_map / len(self)), self.config.off_map
        self._pending, self._uniform = Transform.identity(), True

    @property
    def followed(self) -> np.ndarray:
        """Rows of the map images that matter for the next update, int64 [≤ FOLLOWED]."""
        count = min(FOLLOWED, len(self))
        return np.argpartition(-self._belief, count - 1)[:count]

    def likeliest(self, count: int) -> np.ndarray:
        """Rows of map images to look at more closely, int64 [≤ count].

        In turns the likeliest left and the likeliest of a place that none was taken of: few rows
        then tell places apart and what is best within the likeliest one.
        """
        rows = self.followed
        rows = rows[np.argsort(-self._belief[rows])]
        in_turns = chain.from_iterable(zip_longest(rows, self._heads(rows, count)))
        return np.array(list(dict.fromkeys(r for r in in_turns if r is not None))[:count])

    def _heads(self, rows: np.ndarray, count: int) -> list[int]:
        """Of rows, best first, those farther than twice the radius from all better ones."""
        heads: list[int] = []
        while len(rows) and len(heads) < count:
            heads.append(rows[0])
            gaps = np.linalg.norm(self._tree.data[rows] - self._tree.data[rows[0]], axis=1)
            rows = rows[gaps > 2 * self.config.radius]
        return heads

    def predict(self, base_from_next: Transform | None, seconds: float) -> bool:
        """The vehicle moved. base_from_next: its motion by odometry, None: unknown.

        seconds: since the last call; without odometry the vehicle may have gone as far as the
        largest speed allows, forth or back. Returns whether the image is to be believed: one from
        where the last one was says nothing new, so short motions are added up until they count.
        """
        if self._uniform:  # no motion changes what is equally likely
            return True
        if base_from_next is not None:
            self._pending = self._pending @ base_from_next
            if not self._far(self._pending):
                return False
            base_from_next = self._pending
        self._pending = Transform.identity()
        self._follow(base_from_next, seconds)
        return True

    def _far(self, motion: Transform) -> bool:
        turn = METRES_PER_RADIAN * Rotation.from_quat(motion.quaternion).magnitude()
        return float(np.linalg.norm(motion.translation)) + turn >= self.config.step

    def _follow(self, base_from_next: Transform | None, seconds: float) -> None:
        rows = self.followed
        shares = self._belief[rows]
        others = max(0.0, float(self._belief.sum() - shares.sum()))
        if base_from_next is None:
            found, weights = self._reachable(rows, seconds)
        else:
            found, weights = self._moved(rows, base_from_next)
        totals = weights.sum(1)
        arrives = totals > 0
        moved = weights[arrives] * (shares[arrives] / totals[arrives])[:, None]
        belief = np.bincount(found[arrives].ravel(), moved.ravel(), len(self) + 1)[:-1]
        left = float(shares[~arrives].sum())  # drove where the map has no image
        self._mix(belief, others, left)

    def update(self, rows: np.ndarray, ratios: np.ndarray, floor: float, new: float = 1.0) -> None:
        """What an image says. ratios: log likelihood ratios of map images `rows` [n]; floor: of all
        others; new: the share of it that no image before has said. Values that are not finite say
        nothing."""
        self._uniform = False
        weight = self.config.evidence * new
        logs = np.full(len(self), floor)
        logs[rows] = np.nan_to_num(ratios, nan=floor, posinf=floor, neginf=floor)
        self._belief *= np.exp(weight * logs)
        total = self._belief.sum() + self._off
        self._belief /= total
        self._off /= total

    def belief(self, detail: Callable[[np.ndarray], np.ndarray] | None = None) -> Belief:
        """The likeliest place and how sure it is.

        detail: rows [n] → log weights [n], a closer look that chooses among the likeliest images of
        that place; it does not change how sure the place is.
        """
        row = int(self._belief.argmax())
        around = self._around(row)
        mass = float(self._belief[around].sum())
        if detail is not None:
            around = around[np.argsort(-self._belief[around])[:LOOKED_AT]]
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

    def _around(self, row: int) -> np.ndarray:
        """Rows of the images that show one place with it."""
        reach = np.hypot(self.config.radius, METRES_PER_RADIAN * 2 * np.sin(SAME_HEADING / 2))
        rows = np.array(self._tree.query_ball_point(self._tree.data[row], reach + 1e-6), dtype=int)
        near = np.linalg.norm(self._positions[rows] - self._positions[row], axis=1)
        ahead = self._matrices[rows, :, 0] @ self._matrices[row, :, 0]
        return rows[(near <= self.config.radius) & (ahead > np.cos(SAME_HEADING))]

    def _moved(self, rows: np.ndarray, motion: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Map images near to where each would have gone, [n, k], and their weights."""
        positions = self._positions[rows] + self._matrices[rows] @ motion.translation
        targets = _embedding(positions, self._matrices[rows] @ motion.rotation)
        travelled = float(np.linalg.norm(motion.translation))
        deviation = np.hypot(
            max(self._spacing / 2, LEAST_DEVIATION), self.config.odometry_noise * travelled
        )
        gaps, found = self._query(targets, NEIGHBOURS, REACH * deviation)
        return found, np.exp(-0.5 * (gaps / deviation) ** 2)

    def _reachable(self, rows: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Map images within reach of each, [n, k], and their weights: all alike."""
        reach = self.config.max_speed * max(0.0, seconds) + self._spacing / 2
        steps = reach / max(self._spacing, 1e-3)
        count = int(np.clip(2 * steps + 3, NEIGHBOURS, FOLLOWED))
        gaps, found = self._query(self._tree.data[rows], count, max(reach, 1e-3))
        return found, np.isfinite(gaps).astype(float)

    def _query(self, points: np.ndarray, count: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
        gaps, found = self._tree.query(points, min(count, len(self)), distance_upper_bound=reach)
        return gaps.reshape(len(points), -1), found.reshape(len(points), -1)

    def _mix(self, belief: np.ndarray, others: float, left: float) -> None:
        """Add what jumps: anywhere on the map, off it and back."""
        config = self.config
        on_map = float(belief.sum())
        anywhere = others + config.jump * on_map + config.back * self._off
        self._belief = belief * (1.0 - config.jump - config.leave) + anywhere / len(self)
        self._off = self._off * (1.0 - config.back) + left + config.leave * on_map
        total = self._belief.sum() + self._off
        self._belief /= total
        self._off /= total


def _embedding(positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Positions [N, 3] and rotations [N, 3, 3] of the base → points [N, 5] whose distance is that
    of places; turns count METRES_PER_RADIAN, heights nothing."""
    ahead = rotations[:, :, 0]
    return np.hstack([positions[:, :2], METRES_PER_RADIAN * ahead])
