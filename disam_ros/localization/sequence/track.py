# SPDX-License-Identifier: Apache-2.0
"""The belief of a sequence of images, and the cameras that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Look
from disam_ros.geometry import Transform
from disam_ros.localization.calibration import ScoreScale
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Query
from disam_ros.localization.sequence.bayes_filter import FilterModel, MotionModel, SequenceFilter
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.places import NONE, Places
from disam_ros.localization.view_shift import ErrorScale

NEIGHBOUR_PAIRS = 2000  # pairs of map images that their similarity is estimated from, at most
DOUBTED = 0.5  # probability that a camera sees nothing of the map from which it tells no pose
WINDOW = 0.1  # within which images are of one moment where there is no odometry [s]
ALIVE_NS = 2_000_000_000  # since its last image within which a camera counts as sending
TURNED = (1.0, 0.1, 1.0, 0.1)  # prior weights of quarters: vehicles seldom stand across a track
JOINT = 0.5  # exponent of the number of images of one moment in their evidence
REFERENCE = 1.0  # displacement after which an image is as different as wholly new evidence [m]


@dataclass
class Seen:
    """A camera of the vehicle, and its last image.

    looks: of its images. rows: of the map, at each state of the filter, or NONE. dissimilarity: of
    map images REFERENCE apart. coarse: of the last image. since: motion since its last new
    evidence; None: unknown. information: of the last image, 0…1; query, stamp_ns, odometry, mount:
    its. late: time by which another camera's image was newer [s]. support: its likelihood ratio at
    the place that the belief was sure of, 1 where it was not. doubt: probability that the camera
    sees nothing of the map.
    """

    looks: Sequence[Look]
    rows: NDArray[np.int64]
    dissimilarity: float
    coarse: NDArray[np.float32] | None = None
    since: Transform | None = None
    information: float = 0.0
    odometry: Reading | None = None
    mount: Transform = field(default_factory=Transform.identity)
    query: Query | None = None
    stamp_ns: int = 0
    late: float = 0.0
    support: float = 1.0
    doubt: float = 0.0

    def is_new(self, belief: SequenceFilter) -> bool:
        """Whether the image is new evidence: the vehicle moved by a step, or may have."""
        new = belief.is_uniform or self.since is None or belief.is_step(self.since)
        if new:
            self.since = Transform.identity()
        return new

    def independence(self, coarse: NDArray[np.float32]) -> float:
        """Share of the image's evidence that is independent of the last image's, 0…1.

        0 for the same image, as of a vehicle at rest; 1 for one as different as map images
        REFERENCE apart are.
        """
        before: NDArray[np.float32] | None = self.coarse
        self.coarse = coarse
        if before is None:
            return 1.0
        norms = float(np.linalg.norm(before) * np.linalg.norm(coarse))
        cosine = before @ coarse / max(norms, 1e-12)
        share = (1.0 - cosine) / max(self.dissimilarity, 1e-6)
        return float(np.clip(share, 0.0, 1.0))

    @cached_property
    def states(self) -> NDArray[np.int64]:
        """State that shows each map image up to the last one of any, or NONE."""
        found = np.full(int(self.rows.max()) + 1, NONE)
        known = np.flatnonzero(self.rows != NONE)
        found[self.rows[known]] = known
        return found

    def states_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """States that show map images, int64 [n]; NONE for an image that is of no place."""
        inside = rows < len(self.states)
        return np.where(inside, self.states[np.where(inside, rows, 0)], NONE)


class Track:
    """A filter, and the cameras whose images it takes. quarters: turns of the states.

    stamp_ns, odometry: of the newest image; odometry as of the base that the mapping vehicle would
    have, by the mounts of the first camera: (of the vehicle, of the map). errors: that the view
    angles of its images show.
    """

    def __init__(self, places: Places, model: FilterModel | None) -> None:
        self.places, self._model = places, model
        self.quarters: list[int] = []
        self.cameras: dict[str, Seen] = {}
        self.stamp_ns = 0
        self.odometry: Reading | None = None
        self.mounts: tuple[Transform, Transform] | None = None
        self.errors = ErrorScale()
        self._filter: SequenceFilter | None = None
        self._scales: dict[str, ScoreScale] = {}

    @property
    def filter(self) -> SequenceFilter:
        assert self._filter is not None  # made with the first camera
        return self._filter

    def look_at(self, state: int, camera: str) -> Look | None:
        """How a camera sees a state; None where nothing is known of that."""
        seen = self.cameras[camera]
        turn = self.quarters[state // len(self.places.poses)]
        if seen.rows[state] == NONE:
            return None
        place = state % len(self.places.poses)
        return next(
            look
            for look in seen.looks
            if look.quarters == turn and self.places.rows[look.camera][place] == seen.rows[state]
        )

    def add(self, query: Query, localizer: Localizer) -> Seen:
        """Take a camera, or another mount of it; the belief stays."""
        looks = [look for look in query.looks if look.camera in self.places.rows]
        new = sorted({look.quarters for look in looks} - set(self.quarters))
        if new or self._filter is None:
            self.quarters = [*self.quarters, *new]
            poses = self.places.states(self.quarters)
            shares = [TURNED[turn] for turn in self.quarters]
            if self._filter is None:
                self._filter = SequenceFilter(poses, self._model, shares)
            else:
                self._filter = self._filter.continued(poses, shares)
                for seen in self.cameras.values():
                    seen.rows = self.places.seen_by(seen.looks, self.quarters)
                    seen.__dict__.pop("states", None)
        place_map, rows = localizer.map, self.places.seen_by(looks, self.quarters)
        first = self.places.rows[looks[0].camera]
        there = first != NONE
        codes = place_map.coarse[first[there]]
        positions = self.places.poses[there, :3]
        seen = Seen(
            query.looks,
            rows,
            neighbour_dissimilarity(codes, place_map.steps, positions),
        )
        self.cameras[query.camera] = seen
        return seen

    def image_at(self, state: int, camera: str) -> tuple[int, Transform, Transform]:
        """The map row that a camera sees at a state, or else another one: with its camera's mount
        on the mapping vehicle, turned, and that of the vehicle's camera that looks there."""
        for name in (camera, *self.cameras):
            look = self.look_at(state, name)
            if look is not None:
                return int(self.cameras[name].rows[state]), look.mount, self.cameras[name].mount
        place = state % len(self.places.poses)
        row = max(int(rows[place]) for rows in self.places.rows.values())
        return row, Transform.identity(), Transform.identity()

    def advance(self, moved: Transform | None, seconds: float, model: MotionModel) -> None:
        """Predict. moved: base_from_next by odometry since the last time; None: unknown."""
        self.filter.predict(moved, max(0.0, seconds), model)
        for seen in self.cameras.values():
            known = seen.since is not None and moved is not None
            seen.since = seen.since @ moved if known else None  # type: ignore[operator]

    def together(self, seen: Seen) -> list[Seen]:
        """A camera, and the others with an image of the same moment that do not contradict them,
        in the order of the cameras."""
        return [
            each
            for each in self.cameras.values()
            if each is seen
            or (
                abs(each.stamp_ns - seen.stamp_ns) <= 1e9 * WINDOW
                and each.query is not None
                and each.doubt < DOUBTED
            )
        ]

    def scale(self, camera: str, localizer: Localizer) -> ScoreScale:
        """That coarse scores with the images of a map camera are normalized by."""
        if camera not in self._scales:
            rows = localizer.map.rows_of(camera)
            codes = localizer.map.coarse[rows]
            self._scales[camera] = ScoreScale.of_codes(codes, localizer.map.steps)
        return self._scales[camera]

    def weight(self) -> float:
        """Exponent of the evidence of each camera, by how many of those that send images see a
        place, on average.

        A street that resembles another one does so in all cameras: the n images of a moment count
        as n**JOINT together, chosen on validation drives: less finds the place later, more is sure
        of wrong ones.
        """
        alive = [
            float(np.mean(seen.rows != NONE))
            for seen in self.cameras.values()
            if abs(self.stamp_ns - seen.stamp_ns) <= ALIVE_NS
        ]
        return float(max(1.0, sum(alive)) ** (JOINT - 1.0))

    def doubt_of(self, seen: Seen, model: FilterModel) -> float:
        """Probability that a camera saw nothing of the map before its image; takes that into
        account where more of the other cameras agree with the belief than contradict it."""
        doubt = seen.doubt * (1.0 - model.back) + (1.0 - seen.doubt) * model.leave
        others = [other.support for other in self.cameras.values() if other is not seen]
        agree = sum(other > 1.0 for other in others) > sum(other < 1.0 for other in others)
        support = seen.support if agree else max(1.0, seen.support)
        seen.doubt = doubt / (doubt + (1.0 - doubt) * support)
        return doubt

    def of_mapping_base(self, odometry: Reading | None, query: Query) -> Reading | None:
        """Odometry of the base that the mapping vehicle had if its camera were this one: it turns
        about another point. An identity as this camera's mount counts as unknown. All cameras of a
        vehicle take the first one's for that."""
        lens = query.frame.lens
        if next(iter(self.cameras)) == query.camera:
            own = Transform.identity() if lens is None else lens.base_from_camera
            self.mounts = (own, query.looks[0].mount) if own != Transform.identity() else None
        if odometry is None or self.mounts is None:
            return odometry
        own, mapped = self.mounts
        return replace(odometry, odom_from_base=odometry.odom_from_base @ own @ mapped.inverse())

    def start_over(self) -> None:
        """Forget the drive."""
        self.filter.reset()
        self.errors = ErrorScale()
        for seen in self.cameras.values():
            seen.coarse = seen.since = None
            seen.support, seen.doubt = 1.0, 0.0


def neighbour_dissimilarity(
    codes: NDArray[np.int8], steps: NDArray[np.float32], positions: NDArray[np.float64]
) -> float:
    """1 − cosine that nine in ten pairs of map images REFERENCE apart exceed; 1 for one image.

    Interpolated linearly from consecutive images that are farther apart. codes: int8 [N, d]; steps:
    value of one unit [d]; positions: [N, 3]; NEIGHBOUR_PAIRS pairs, evenly taken.
    """
    first = np.unique(np.linspace(0, max(0, len(codes) - 2), NEIGHBOUR_PAIRS).astype(int))
    if len(codes) < 2:
        return 1.0
    pairs = np.stack([codes[first], codes[first + 1]]) * steps
    unit = pairs / np.maximum(np.linalg.norm(pairs, axis=2, keepdims=True), 1e-12)
    gaps = np.linalg.norm(positions[first + 1] - positions[first], axis=1)
    nearer = np.minimum(1.0, REFERENCE / np.maximum(gaps, 1e-6))
    return float(np.quantile((1.0 - (unit[0] * unit[1]).sum(1)) * nearer, 0.1))
