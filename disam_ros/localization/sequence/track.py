# SPDX-License-Identifier: Apache-2.0
"""The belief of a sequence of images, the cameras that they are of, and their clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import ViewMatch
from disam_ros.geometry import Transform
from disam_ros.localization.calibration import COARSE_SAMPLE, ScoreScale
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pose import ErrorScale
from disam_ros.localization.query import Belief, Query
from disam_ros.localization.sequence.bayes_filter import FilterModel, MotionModel, SequenceFilter
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.places import NONE, Places
from disam_ros.mapping.repetition import evenly

NEIGHBOUR_PAIRS = 2000  # pairs of map images that their similarity is estimated from, at most
DOUBTED = 0.5  # probability that a camera sees nothing of the map from which it tells no pose
WINDOW = 0.1  # within which images are of one moment where there is no odometry [s]
ALIVE_NS = 2_000_000_000  # since its last image within which a camera counts as sending
TURNED = (1.0, 0.1, 1.0, 0.1)  # prior weights of quarters: vehicles seldom stand across a track
JOINT = 0.5  # exponent of the number of images of one moment in their evidence
REFERENCE = 1.0  # displacement after which an image is as different as wholly new evidence [m]
RECENT = 3  # images of every camera within which those count that still send some
ONE_CLOCK_NS = 1_000_000_000  # by which stamps of one clock may differ
CLOCK_JUMP_NS = 10_000_000_000  # step of a camera's stamps that the others have to confirm


@dataclass
class VehicleCamera:
    """A camera of the vehicle, and its last image."""

    view_matches: Sequence[ViewMatch]  # map cameras that its images are compared with
    rows: NDArray[np.int64]  # of the map, at each state of the filter, or NONE
    dissimilarity: float  # of map images REFERENCE apart
    coarse: NDArray[np.float32] | None = None  # descriptor of the last image
    since: Transform | None = None  # motion since its last new evidence; None: unknown
    information: float = 0.0  # share of new evidence in the last image, 0…1
    odometry: Reading | None = None  # at the last image
    mount: Transform = field(default_factory=Transform.identity)  # at the last image
    query: Query | None = None  # the last image
    stamp_ns: int = 0  # of the last image
    late: float = 0.0  # time by which another camera's image was newer [s]
    support: float = 1.0  # likelihood ratio of the last image at a sure place; 1 where none is sure
    doubt: float = 0.0  # probability that the camera sees nothing of the map
    spoken: NDArray[np.float64] | None = None  # position that its images have spoken for [3] [m]

    def __post_init__(self) -> None:
        self.moved_to(self.rows)

    def moved_to(self, rows: NDArray[np.int64]) -> None:
        """Takes the rows of a filter of more states."""
        self.rows, self._states = rows, _states_of(rows)
        unseen = rows == NONE
        self.unseen = unseen if unseen.any() else None  # states of which its images say nothing

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

    def fresh(self, position: NDArray[np.float64], spacing: float) -> float:
        """Share of a place that the last images have not spoken for, 0…1.

        position: of the map image that is the place [3] [m]; spacing: of the map [m]. The position
        that was spoken for follows by this share.
        """
        before, self.spoken = self.spoken, position
        if before is None:
            return 1.0
        step = position - before
        share = float(np.linalg.norm(step)) / max(REFERENCE, spacing)
        share = min(1.0, share)
        self.spoken = before + share * step
        return share

    def states_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """States that show map images, int64 [n]; NONE for an image that is of no place."""
        inside = rows < len(self._states)
        return np.where(inside, self._states[np.where(inside, rows, 0)], NONE)


def _states_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """State that shows each map image up to the last one of any, or NONE."""
    states = np.full(int(rows.max()) + 1, NONE)
    mapped = np.flatnonzero(rows != NONE)
    states[rows[mapped]] = mapped
    return states


class Track:
    """The belief of a sequence, and the cameras whose images are evidence for it."""

    def __init__(self, places: Places, model: FilterModel | None) -> None:
        self.places, self._model = places, model
        self.quarters: list[int] = []  # turns of the vehicle that the states stand for
        self.cameras: dict[str, VehicleCamera] = {}
        self.stamp_ns = 0  # of the newest image
        self.odometry: Reading | None = None  # there, of the base that the mapping vehicle has
        # Mounts of the first camera on the vehicle and on the mapping vehicle.
        self.mounts: tuple[Transform, Transform] | None = None
        # Of the errors that the view angles of the drive show, sideways and upright.
        self.errors = ErrorScale(), ErrorScale()
        # Beliefs refined by the last images of cameras, since the last evidence.
        self.beliefs: dict[tuple[int, ...], Belief] = {}
        self._filter: SequenceFilter | None = None
        self._scales: dict[str, ScoreScale] = {}

    @property
    def filter(self) -> SequenceFilter:
        assert self._filter is not None  # made with the first camera
        return self._filter

    def match_at(self, state: int, camera: str) -> ViewMatch | None:
        """How a camera sees a state; None where nothing is known of that."""
        row = self.cameras[camera].rows[state]
        turn = self.quarters[state // len(self.places.poses)]
        if row == NONE:
            return None
        place = state % len(self.places.poses)
        return next(
            match
            for match in self.cameras[camera].view_matches
            if match.quarters == turn and self.places.rows[match.camera][place] == row
        )

    def add(self, query: Query, localizer: Localizer) -> VehicleCamera:
        """Takes a camera, or another mount of it; the belief stays."""
        matches = [match for match in query.view_matches if match.camera in self.places.rows]
        new = sorted({match.quarters for match in matches} - set(self.quarters))
        if new or self._filter is None:
            self.quarters = [*self.quarters, *new]
            poses = self.places.states(self.quarters)
            shares = [TURNED[turn] for turn in self.quarters]
            if self._filter is None:
                self._filter = SequenceFilter(poses, self._model, shares)
            else:
                self._filter = self._filter.continued(poses, shares)
                for camera in self.cameras.values():
                    camera.moved_to(self.places.seen_by(camera.view_matches, self.quarters))
        place_map, rows = localizer.map, self.places.seen_by(matches, self.quarters)
        first = self.places.rows[matches[0].camera]
        shown = first != NONE
        positions = self.places.poses[shown, :3]
        camera = VehicleCamera(
            query.view_matches,
            rows,
            neighbour_dissimilarity(place_map.coarse, first[shown], place_map.steps, positions),
        )
        self.cameras[query.camera] = camera
        return camera

    def image_at(self, state: int, camera: str) -> tuple[int, Transform, Transform]:
        """The map row that a camera sees at a state, or else another one: with its camera's mount
        on the mapping vehicle, turned, and that of the vehicle's camera that looks there."""
        for name in (camera, *self.cameras):
            match = self.match_at(state, name)
            if match is not None:
                return int(self.cameras[name].rows[state]), match.mount, self.cameras[name].mount
        place = state % len(self.places.poses)
        row = max(int(rows[place]) for rows in self.places.rows.values())
        return row, Transform.identity(), Transform.identity()

    def advance(self, moved: Transform | None, seconds: float, model: MotionModel) -> None:
        """Predict. moved: base_from_next by odometry since the last time; None: unknown."""
        self.filter.predict(moved, max(0.0, seconds), model)
        for camera in self.cameras.values():
            since, camera.since = camera.since, None
            if since is not None and moved is not None:
                camera.since = since @ moved

    def together(self, camera: VehicleCamera) -> list[VehicleCamera]:
        """A camera, and the others with an image of the same moment that do not contradict them,
        in the order of the cameras."""
        return [
            other
            for other in self.cameras.values()
            if other is camera
            or (
                abs(other.stamp_ns - camera.stamp_ns) <= 1e9 * WINDOW
                and other.query is not None
                and other.doubt < DOUBTED
            )
        ]

    def scale(self, camera: str, localizer: Localizer) -> ScoreScale:
        """Mean and deviation of coarse scores over the images of a map camera."""
        if camera not in self._scales:
            rows = localizer.map.rows_of(camera)
            codes = localizer.map.coarse[rows[evenly(len(rows), COARSE_SAMPLE)]]
            self._scales[camera] = ScoreScale.of_codes(codes, localizer.map.steps)
        return self._scales[camera]

    def seeing(self) -> float:
        """How many of the cameras that send images see a place, on average; at least one."""
        alive = [
            float(np.mean(camera.rows != NONE))
            for camera in self.cameras.values()
            if abs(self.stamp_ns - camera.stamp_ns) <= ALIVE_NS
        ]
        return max(1.0, sum(alive))

    def weight(self) -> float:
        """Exponent of the evidence of each camera, by how many see a place.

        A street that resembles another one does so in all cameras: the n images of a moment count
        as n**JOINT together, chosen on validation drives: less finds the place later, more is sure
        of wrong ones.
        """
        return float(self.seeing() ** (JOINT - 1.0))

    def doubt_of(self, camera: VehicleCamera, model: FilterModel) -> float:
        """Probability that a camera saw nothing of the map before its image; takes that into
        account where more of the other cameras agree with the belief than contradict it."""
        doubt = camera.doubt * (1.0 - model.back) + (1.0 - camera.doubt) * model.leave
        others = [other.support for other in self.cameras.values() if other is not camera]
        agree = sum(other > 1.0 for other in others) > sum(other < 1.0 for other in others)
        support = camera.support if agree else max(1.0, camera.support)
        camera.doubt = doubt / (doubt + (1.0 - doubt) * support)
        return doubt

    def of_mapping_base(self, odometry: Reading | None, query: Query) -> Reading | None:
        """Odometry of the base that the mapping vehicle had if its camera were this one: it turns
        about another point. An identity as this camera's mount counts as unknown. All cameras of a
        vehicle take the first one's for that."""
        lens = query.frame.lens
        if next(iter(self.cameras)) == query.camera:
            mount = Transform.identity() if lens is None else lens.base_from_camera
            is_mounted = mount != Transform.identity()
            self.mounts = (mount, query.view_matches[0].mount) if is_mounted else None
        if odometry is None or self.mounts is None:
            return odometry
        mount, mapped = self.mounts
        return replace(odometry, odom_from_base=odometry.odom_from_base @ mount @ mapped.inverse())

    def start_over(self) -> None:
        """Forgets the drive."""
        self.filter.reset()
        self.errors = ErrorScale(), ErrorScale()
        for camera in self.cameras.values():
            camera.coarse = camera.since = camera.spoken = None
            camera.support, camera.doubt = 1.0, 0.0


def neighbour_dissimilarity(
    codes: NDArray[np.int8],
    rows: NDArray[np.int64],
    steps: NDArray[np.float32],
    positions: NDArray[np.float64],
) -> float:
    """1 − cosine that nine in ten pairs of map images REFERENCE apart exceed; 1 for one image.

    Interpolated linearly from consecutive images that are farther apart. codes: of the map, int8
    [N, d]; rows: of the images [n]; steps: value of one unit [d]; positions: [n, 3];
    NEIGHBOUR_PAIRS pairs, evenly taken.
    """
    first = np.unique(np.linspace(0, max(0, len(rows) - 2), NEIGHBOUR_PAIRS).astype(int))
    if len(rows) < 2:
        return 1.0
    pairs = np.stack([codes[rows[first]], codes[rows[first + 1]]]) * steps
    unit = pairs / np.maximum(np.linalg.norm(pairs, axis=2, keepdims=True), 1e-12)
    gaps = np.linalg.norm(positions[first + 1] - positions[first], axis=1)
    nearer = np.minimum(1.0, REFERENCE / np.maximum(gaps, 1e-6))
    return float(np.quantile((1.0 - (unit[0] * unit[1]).sum(1)) * nearer, 0.1))


class ClockVote:
    """Detects a camera whose stamps are not of the clock that most cameras of a vehicle have."""

    def __init__(self) -> None:
        self._stamps: dict[str, tuple[int, int]] = {}  # the last two by camera [ns]
        self._numbers: dict[str, int] = {}  # of its last image, among all
        self._count = 0

    def agrees(self, camera: str, stamp_ns: int) -> bool:
        """Whether an image's stamp is of the common clock: of most cameras that sent images of
        late; among as many, of the first camera. A jump is one only when most cameras made it.
        """
        self._count += 1
        before = self._stamps.get(camera, (stamp_ns, stamp_ns))[0]
        self._stamps[camera], self._numbers[camera] = (stamp_ns, before), self._count
        newest = self._count - RECENT * len(self._stamps)
        recent = {name: self._stamps[name] for name, n in self._numbers.items() if n > newest}
        if abs(stamp_ns - before) > CLOCK_JUMP_NS:
            followed = sum(abs(last - stamp_ns) <= ONE_CLOCK_NS for last, _ in recent.values())
            return 2 * followed > len(recent)
        votes = {
            name: sum(map(_one_clock(stamps), recent.values())) for name, stamps in recent.items()
        }
        leader = max(votes, key=lambda name: votes[name])
        return _one_clock(recent[leader])(recent[camera])


def _one_clock(stamps: tuple[int, int]) -> Callable[[tuple[int, int]], bool]:
    """Whether any two of the last stamps of two cameras are near each other."""
    return lambda others: any(abs(a - b) <= ONE_CLOCK_NS for a in stamps for b in others)
