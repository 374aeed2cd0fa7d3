# SPDX-License-Identifier: Apache-2.0
"""Bayes filter over map images: motion model, image likelihoods, belief.

The state is one of the map images, or none of them (off the map). A step predicts with the motion
since the last image, from odometry where there is any, and updates with a log likelihood ratio per
map image: how much likelier the image's score is at that place than elsewhere (calibration.py). Off
the map a street may resemble a mapped one, along all of it: there the evidence for the places that
the belief follows counts as well, up to a limit.
The belief stays multimodal until images resolve it; a small share jumps anywhere, so that the
filter recovers from kidnapping and from wrong beliefs.

A map image stands for the stretch of road halfway to its neighbours: its prior probability is
proportional to the local spacing of the map, the motion model's deviation and the radius of a place
grow with it. The belief is then that of the road, however densely it was mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from disam_ros.geometry import Transform
from disam_ros.localization.pose import METRES_PER_RADIAN
from disam_ros.localization.query import Belief
from disam_ros.localization.sequence.transitions import TRACKED, Speeds, Transitions, displacement

SAME_HEADING = np.radians(45.0)  # largest difference in heading of images of one place
PLACE_STEPS = 1.5  # least radius of a place, in local spacings of the map
DETAILED = 10  # images of the likeliest place whose stretches are compared, at most
CONSENSUS = 0.5  # least probability of a place that an image can contradict
PLAUSIBLE = 1e-4  # share of the likeliest image's probability below which no image makes up for it


@dataclass(frozen=True)
class FilterModel:
    """Constants of the filter, chosen on validation drives.

    step: displacement after which an image is new evidence, where there is odometry [m]. evidence:
    exponent of the image likelihood; < 1 as consecutive images are correlated. jump, leave, back:
    probability per step of being anywhere, of leaving the map, of coming back. off_map: prior
    probability of being off the map. alike: share of the images off the map that resemble the place
    that the belief follows rather than any. against: log odds that the images of a moment count
    against the map at most, all cameras together, once a place is followed: beside the mapped lane
    some of them see little that was mapped. persists: log odds up to which an image that resembles
    the same place as the last ones says nothing for the map. radius: images within it show one
    place [m], at least PLACE_STEPS local spacings.
    """

    step: float = 0.5
    evidence: float = 0.6
    jump: float = 0.01
    leave: float = 0.003
    back: float = 0.1
    off_map: float = 0.5
    alike: float = 0.35
    against: float = 2.0
    persists: float = 2.5
    radius: float = 5.0


@dataclass(frozen=True)
class MotionModel:
    """max_speed: of the vehicle, where there is no odometry [m/s]. odometry_noise: standard
    deviation of odometry per distance driven [m/m]."""

    max_speed: float = 20.0
    odometry_noise: float = 0.1


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an image says of where it was taken.

    ratios: log likelihood ratios of map images `rows` [n], the floor's where not finite. floor: of
    all others. place: images of the best place [k]; log_odds: that it is the right one
    (candidates.py); fresh: share of it that earlier images have not spoken for, 0…1: what lies off
    the map and resembles a place goes on resembling it. unseen: images of which it says nothing,
    bool [N]; None: none.
    """

    rows: NDArray[np.int64]
    ratios: NDArray[np.float64]
    floor: float
    place: NDArray[np.int64]
    log_odds: float
    fresh: float = 1.0
    unseen: NDArray[np.bool_] | None = None


class SequenceFilter(Transitions):
    """poses: map_from_base of the map images in map order, [N, 7] tx ty tz qx qy qz qw. shares:
    prior weights of the copies of equal length that they consist of: the map, and those of a
    vehicle that was turned (places.py). is_uniform: whether no image was evidence yet.
    """

    def __init__(
        self,
        poses: NDArray[np.float64],
        model: FilterModel | None = None,
        shares: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(poses, shares)
        self._model = model or FilterModel()
        self.reset()

    def reset(self) -> None:
        """Forget everything: all of the road is equally likely."""
        self._belief = (1.0 - self._model.off_map) * self._cells
        self._off = self._model.off_map
        self._pending, self.is_uniform = Transform.identity(), True
        self._speeds = Speeds(len(self))

    @property
    def tracked(self) -> NDArray[np.int64]:
        """Rows of the likeliest map images, int64 [≤ TRACKED]."""
        count = min(TRACKED, len(self))
        rows = np.flatnonzero(self._belief >= self._belief.mean())  # few, once a place is followed
        if len(rows) < count:
            rows = np.arange(len(self))
        return rows[np.argpartition(-self._belief[rows], count - 1)[:count]]

    def likeliest(self, count: int) -> NDArray[np.int64]:
        """Rows of map images for verification, int64 [≤ count]: the likeliest remaining one and
        that of the next mode in turns, so that few cover the competing places, too.
        """
        rows = self.tracked
        rows = rows[np.argsort(-self._belief[rows])]
        modes = self._modes(rows, count)
        in_turns = dict.fromkeys(chain.from_iterable(zip_longest(rows[:count].tolist(), modes)))
        in_turns.pop(None, None)  # where there are fewer modes
        return np.array(list(in_turns)[:count])

    def plausible(self, count: int) -> NDArray[np.int64]:
        """Map images of at least PLAUSIBLE times the mode's probability, int64 [≤ count],
        in the order of `likeliest`."""
        rows = self.likeliest(count)
        return np.asarray(rows[self._belief[rows] >= PLAUSIBLE * self._belief.max()])

    def _modes(self, rows: NDArray[np.int64], count: int) -> list[int]:
        """Modes among `rows`, best first: farther than twice the radius from all better ones."""
        points, radii = self._tree.data[rows], 2 * self._radius(rows)
        apart = cdist(points, points) > radii[:, None]
        modes, left = list[int](), np.ones(len(rows), bool)
        while left.any() and len(modes) < count:
            first = int(left.argmax())
            modes.append(int(rows[first]))
            left &= apart[first]
        return modes

    def predict(
        self, base_from_next: Transform | None, seconds: float, motion: MotionModel | None = None
    ) -> bool:
        """Motion update. base_from_next: odometry since the last call; None: unknown. seconds:
        since the last call; without odometry the vehicle may have gone forth or back at its largest
        speed, most likely ahead as fast as before. Returns whether the next image is new evidence:
        displacements below `FilterModel.step` accumulate until they reach it.
        """
        motion = motion or MotionModel()
        if self.is_uniform:  # no motion changes what is equally likely
            return True
        if base_from_next is not None:
            self._pending = self._pending @ base_from_next
            if not self.is_step(self._pending):
                return False
            base_from_next = self._pending
        self._pending = Transform.identity()
        self._propagate(base_from_next, seconds, motion)
        return True

    def is_step(self, motion: Transform) -> bool:
        """Whether an image after this motion is new evidence (FilterModel.step)."""
        return displacement(motion) >= self._model.step

    def _propagate(
        self, base_from_next: Transform | None, seconds: float, motion: MotionModel
    ) -> None:
        shares = self._belief[rows := self.tracked]
        others = max(0.0, float(self._belief.sum() - shares.sum()))
        if base_from_next is None:
            seconds = max(0.0, seconds)
            targets, weights = self._reachable(rows, motion.max_speed * seconds, seconds)
            ahead = self._ahead(rows, targets)
            beyond, outside = self._beyond(rows, motion.max_speed * seconds)
            nowhere = np.full(beyond.shape, len(self))
            targets, weights = np.hstack([targets, nowhere]), np.hstack([weights, outside])
            ahead, spacing = np.hstack([ahead, beyond]), self._between(rows, targets)
            weights = self._speeds.weights(rows, weights, ahead, spacing, seconds)
        else:
            targets, weights = self._moved(rows, base_from_next, motion.odometry_noise)
        totals = weights.sum(1)
        arrives = totals > 0
        moved = weights[arrives] * (shares[arrives] / totals[arrives])[:, None]
        arrived = np.bincount(targets[arrives].ravel(), moved.ravel(), len(self) + 1)
        belief, left = arrived[:-1], float(arrived[-1])  # to where the map has no image
        left += float(shares[~arrives].sum())
        if base_from_next is None:
            self._speeds.move(rows[arrives], targets[arrives], moved, ahead[arrives], seconds)
        else:
            self._speeds.forget()
        self._mix(belief.astype(np.float64, copy=False), others, left)

    def update(
        self, evidence: Evidence, new: float = 1.0, doubt: float = 0.0, cameras: float = 1.0
    ) -> None:
        """Measurement update by an image.

        new: share of it that is independent of earlier ones, 0…1. doubt: probability that it says
        nothing. cameras: number of them that see a place at this moment.
        """
        place, log_odds = evidence.place, evidence.log_odds
        first, self.is_uniform = self.is_uniform, False
        factors = self._factors(evidence)
        against = self._model.against / cameras
        alike, least = (0.0, -np.inf) if first else (self._model.alike, -against)
        off = self._weigh(factors, place, max(log_odds, least), alike)
        again = self._followed(factors) * float(np.exp(min(0.0, self._model.persists - log_odds)))
        off += (1.0 - evidence.fresh) * max(0.0, again - off)
        exponent = new * (1.0 if first else self._model.evidence)
        others, special = factors, np.concatenate([evidence.rows, place])
        factors = np.full(len(self), np.exp(evidence.floor) ** exponent)  # no power of N numbers
        factors[special] = others[special] ** exponent
        if evidence.unseen is not None:
            factors[evidence.unseen] = off**exponent
        self._multiply(factors, off**exponent, doubt)

    def verify(
        self,
        rows: NDArray[np.int64],
        ratios: NDArray[np.float64],
        new: float = 1.0,
        doubt: float = 0.0,
    ) -> None:
        """Measurement update by an image's keypoints.

        ratios: log likelihood ratios of map images `rows` [n]; new, doubt: as of `update`. They
        speak for a place, against the others and against off the map, and never against one, whose
        other images were not compared.
        """
        factors = np.ones(len(self))
        ratios = np.where(np.isfinite(ratios), np.maximum(ratios, 0.0), 0.0)
        factors[rows] = np.exp(ratios) ** (new * self._model.evidence)
        self._multiply(factors, 1.0, doubt)

    def _followed(self, factors: NDArray[np.float64]) -> float:
        """Mean factor of the belief on the map."""
        return float(self._belief @ factors) / max(float(self._belief.sum()), 1e-300)

    def _multiply(self, factors: NDArray[np.float64], off: float, doubt: float) -> None:
        self._belief *= (1.0 - doubt) * factors + doubt
        self._off *= (1.0 - doubt) * off + doubt
        self._normalize()

    def _weigh(
        self,
        factors: NDArray[np.float64],
        place: NDArray[np.int64],
        log_odds: float,
        alike: float,
    ) -> float:
        """Weighs the best place against all others and against off the map, whose factor it
        returns, such that an image that comes first makes it as likely as its odds say.

        Off the map, images resemble any place by its share of the road, or, a share `alike` of
        them, the place that the belief follows.
        """
        odds = float(np.exp(log_odds))
        best = float(self._cells[place] @ factors[place])
        others = max(0.0, float(self._cells @ factors) - best)
        if best < 2.0 * odds * others:
            factors[place] *= 2.0 * odds * others / best
            best = 2.0 * odds * others
        anywhere = max(best / odds - others, 0.0)
        return (1.0 - alike) * anywhere + alike * self._followed(factors) / odds

    def support(self, evidence: Evidence, new: float = 1.0) -> float:
        """Likelihood ratio of an image, as of `update`, at the likeliest place; 1 where none is."""
        around = self._around(self.mode, self._positions[self.mode])
        if (share := float(self._belief[around].sum())) < CONSENSUS:
            return 1.0
        factors = self._factors(evidence)[around]
        factors **= self._model.evidence * new
        return float(self._belief[around] @ factors) / share

    def _factors(self, evidence: Evidence) -> NDArray[np.float64]:
        """Factors of an image on the belief in each map image [N]."""
        ratios, floor = evidence.ratios, evidence.floor
        factors = np.full(len(self), np.exp(floor))
        if evidence.unseen is not None:
            factors[evidence.unseen] = 1.0
        factors[evidence.rows] = np.exp(np.where(np.isfinite(ratios), ratios, floor))
        return factors

    @property
    def mode(self) -> int:
        """Row of the likeliest map image."""
        return int(self._belief.argmax())

    def continued(self, poses: NDArray[np.float64], shares: Sequence[float]) -> SequenceFilter:
        """A filter of more copies of the map, the first of which are this one's."""
        grown = SequenceFilter(poses, self._model, shares)
        if not self.is_uniform:
            count = len(self)
            jump = self._model.jump * float(self._belief.sum())
            grown._belief = grown._cells * (jump / max(1.0 - grown._cells[:count].sum(), 1e-12))
            grown._belief[:count] = (1.0 - self._model.jump) * self._belief
            grown._off, grown._pending, grown.is_uniform = self._off, self._pending, False
        return grown

    def belief(
        self,
        detail: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None,
        temper: float = 1.0,
    ) -> Belief:
        """The likeliest place, and where the vehicle is between its images.

        detail: rows [n] → log-weights [n] that refine the pose among the likeliest images of that
        place; where between two images the pose lies is theirs alone. temper: exponent of the
        belief in the choice of the stretch then.
        """
        rows = self.place()
        logs = details = np.log(self._belief[rows].clip(1e-300))
        if detail is not None:
            details = detail(rows)
            logs = temper * logs + details
        between = self._curve.between(rows, logs, details, self._model.radius)
        pose = between.pose
        near = self._around(between.row, pose.translation)
        place = float(self._belief[np.union1d(near, between.ends)].sum())
        return Belief(
            row=between.row,
            map_from_base=pose @ self._pending,
            probability=place * between.share_near,
            on_map=1.0 - self._off,
            covariance=between.spread,
            bend=between.bend,
            steps=between.steps,
            spacing=between.spacing,
        )

    def place(self) -> NDArray[np.int64]:
        """Rows of the likeliest images of the likeliest place, and the next ones to these."""
        row = self.mode
        radius = float(self._radius(row))
        near = self._around(row, self._positions[row], 2 * radius)
        close = near[self._within(near, self._positions[row], radius)]
        mean = np.average(self._positions[close], axis=0, weights=self._belief[close] + 1e-300)
        rows = near[self._within(near, mean, radius)]
        rows = np.union1d(rows[np.argsort(-self._belief[rows])[:DETAILED]], [row])
        every = np.unique([rows, self._curve.next[rows], self._curve.before[rows]])
        return np.asarray(every[every >= 0])

    def _around(
        self, row: int, position: NDArray[np.float64], radius: float | None = None
    ) -> NDArray[np.int64]:
        """Map images within the radius of a place about a position near to an image, and within
        SAME_HEADING of that one. radius: None: that of the image's place."""
        radius = float(self._radius(row)) if radius is None else radius
        reach = radius + float(np.linalg.norm(position - self._positions[row]))
        reach = np.hypot(reach, METRES_PER_RADIAN * 2 * np.sin(SAME_HEADING / 2))
        near = self._tree.query_ball_point(self._tree.data[row], reach + 1e-6)
        rows: NDArray[np.int64] = np.array(near, dtype=np.int64)
        rows = rows[self._matrices[rows, :, 0] @ self._matrices[row, :, 0] > np.cos(SAME_HEADING)]
        return rows[self._within(rows, position, radius)]

    def _within(
        self, rows: NDArray[np.int64], position: NDArray[np.float64], radius: float
    ) -> NDArray[np.bool_]:
        gaps = np.linalg.norm(self._positions[rows] - position, axis=1)
        return np.asarray(gaps <= radius + 1e-6)

    def _radius(self, rows: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Radius of the place about a map image [m], or about each of several."""
        radius: NDArray[np.float64] = np.maximum(
            self._model.radius, PLACE_STEPS * self._spacing[rows]
        )
        return radius

    def _mix(self, belief: NDArray[np.float64], others: float, left: float) -> None:
        """Adds the jump, leave and return probabilities, and normalizes."""
        model = self._model
        on_map = float(belief.sum())
        anywhere = others + model.jump * on_map + model.back * self._off
        came = belief * (1.0 - model.jump - model.leave)
        self._belief = came + anywhere * self._cells
        self._speeds.keep(came / np.maximum(self._belief, 1e-300))
        self._off = self._off * (1.0 - model.back) + left + model.leave * on_map
        self._normalize()

    def _normalize(self) -> None:
        total = self._belief.sum() + self._off
        self._belief, self._off = self._belief / total, self._off / total
