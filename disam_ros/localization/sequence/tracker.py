# SPDX-License-Identifier: Apache-2.0
"""Sequence tracking: a Bayes filter over map images with image likelihoods and odometry.

A vehicle has one filter, and the images of all its cameras are evidence of where it is: a camera
sees at a place what a map image shows that looks where it does (camera/views.py, places.py). Where
no map image does, the image says nothing. A camera may as well see nothing of the map at all, with
a probability that rises while it contradicts the place of which the belief is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig, VerifyConfig
from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.localization.calibration import Calibration, z_scores
from disam_ros.localization.candidates import place_lead, place_log_odds
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Answer, Belief, Candidates, Query
from disam_ros.localization.sequence.bayes_filter import Evidence, FilterModel, MotionModel
from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.localization.sequence.places import NONE, Places
from disam_ros.localization.sequence.track import DOUBTED, WINDOW, ClockVote, Track, VehicleCamera
from disam_ros.localization.verification import STRONG, Verification, worth_verifying
from disam_ros.models.similarity import TEMPERATURE

SCORED = 30  # likeliest map images that are scored in addition to the candidates
TEMPER = 0.4  # exponent of the belief in the pose: scores of neighbouring images err together
LIKELY = 0.5  # probability of a place from which its view tells how large errors are
MAX_GAP = 10.0  # time between images after which a sequence starts over [s]
MAX_LATE = 1.0  # by which an image may be older than another camera's to be evidence [s]
NO_MOUNT, NO_STAMP, CLOCK = "its mount is unknown", "no usable stamp", "its clock differs"


@dataclass(eq=False)
class Step:
    """An image in its sequence: `Tracker.predict` makes it, `update` takes the image's scores."""

    tracker: Tracker
    query: Query
    track: Track  # belief of the sequence
    camera: VehicleCamera
    alone: str  # why the image counts for a sequence of its own; empty: it is of the vehicle's
    informative: bool  # whether the image is evidence
    odometry: Reading | None  # at the image, of the base that the mapping vehicle has
    late: float = 0.0  # time by which another camera's image was newer [s]
    candidates: Candidates = field(init=False)

    @cached_property
    def plausible(self) -> NDArray[np.int64]:
        """Rows of the map that are scored besides the image's candidates, int64 [≤ SCORED]: the
        likeliest ones, so that images which the coarse search missed are not excluded."""
        rows = self.camera.rows[self.track.filter.plausible(SCORED)]
        mapped: NDArray[np.int64] = rows[rows != NONE]
        return mapped

    @property
    def near(self) -> NDArray[np.int64]:
        """Rows of the map at the place that the belief follows, int64 [n]: their scores refine the
        pose where the image confirms it."""
        belief = self.track.filter
        rows = self.camera.rows[belief.place() if not belief.is_uniform else self.plausible[:0]]
        mapped: NDArray[np.int64] = rows[rows != NONE]
        return mapped

    def update(self, candidates: Candidates) -> Step:
        """Updates the belief with the scores of the image; returns the step."""
        self.candidates = candidates
        self.tracker.update(self)
        return self

    def worth_verifying(self, config: VerifyConfig) -> bool:
        """Whether keypoints can change the answer."""
        return self.informative and worth_verifying(
            self.tracker.probability(self), self.camera.information, config
        )

    def likeliest(self, count: int) -> NDArray[np.int64]:
        """Map rows to verify, int64 [≤ count]: the likeliest ones and the best of other places."""
        rows = self.camera.rows[self.track.filter.likeliest(count)]
        mapped: NDArray[np.int64] = rows[rows != NONE]
        return mapped

    def verify(self, verified: Sequence[Verification], ratios: NDArray[np.float64]) -> None:
        """Updates the belief with the log likelihood ratios [n] of verified map images."""
        track, camera = self.track, self.camera
        states = camera.states_of(np.array([item.row for item in verified]))
        track.beliefs.clear()
        doubt = camera.doubt if len(track.cameras) > 1 else 0.0
        track.filter.verify(states, ratios, camera.information * track.weight(), doubt)

    def answer(self, config: LocalizerConfig, verified: Sequence[Verification] = ()) -> Answer:
        """Returns the answer of the whole sequence, after the evidence of all its images."""
        return self.tracker.answer(self, config, verified)


class Tracker:
    """Tracks one vehicle on one map.

    The images of a camera are a sequence of their own where its place on the vehicle is unknown,
    and while its clock differs from those of most cameras.
    """

    def __init__(
        self,
        localizer: Localizer,
        calibration: Calibration | None = None,
        model: FilterModel | None = None,
    ) -> None:
        self._localizer, self._model = localizer, model or FilterModel()
        self._calibration = calibration or localizer.calibration
        self.reset()

    def reset(self) -> None:
        """Forgets all sequences."""
        self._vehicle: Track | None = None
        self._alone: dict[str, Track] = {}
        self._names = set[str]()  # of cameras
        self._clocks = ClockVote()

    def predict(
        self,
        query: Query,
        odometry: Reading | None,
        config: LocalizerConfig,
        informative: bool = True,
    ) -> Step:
        """Predicts with odometry; the step is to be updated before the next one.

        odometry: at the image's stamp; None: unknown. informative: False: the image is no evidence.
        An image without stamp, MAX_GAP after the last one or before the last one of its camera
        starts a sequence over; one that comes later than another camera's newer image is evidence
        of where the vehicle was then.
        """
        step = self._step(query, odometry, informative)
        track, odometry = step.track, step.odometry
        track.beliefs.clear()
        stamp_ns = query.frame.stamp_ns
        seconds = 1e-9 * ((stamp_ns or 0) - track.stamp_ns)
        several = len(track.cameras) > 1
        late = several and -MAX_LATE <= seconds < 0.0
        if stamp_ns is None or not track.stamp_ns or not (late or 0.0 <= seconds <= MAX_GAP):
            track.start_over()
            track.advance(None, seconds, _motion_model(config))
            track.stamp_ns, track.odometry = stamp_ns or 0, odometry
        elif not late:
            moved = motion(track.odometry, odometry)
            if moved is not None or not several or seconds >= WINDOW:
                track.advance(moved, seconds, _motion_model(config))
                track.stamp_ns = stamp_ns
            track.odometry = odometry
        step.late = -seconds if late else 0.0
        return step

    def update(self, step: Step) -> None:
        """Updates the belief of a step with its candidates and other scores of its image."""
        query, track, camera = step.query, step.track, step.camera
        camera.query, camera.stamp_ns = query, query.frame.stamp_ns or 0
        camera.odometry, camera.late = step.odometry, step.late
        camera.mount = self._localizer.base_from_camera(query.frame)
        unknown = camera.since is None
        camera.information = float(camera.is_new(track.filter))
        then_from_now = motion(step.odometry, track.odometry) if step.late else None
        if step.informative and (then_from_now is not None or camera.late <= WINDOW):
            independence = camera.independence(query.coarse)
            camera.information *= independence if unknown else 1.0
            self._update(step, then_from_now)

    def _update(self, step: Step, then_from_now: Transform | None) -> None:
        """Measurement update. then_from_now: motion since an image that came late."""
        query, track, camera = step.query, step.track, step.camera
        calibration = self._calibration.of(query.domain.name)
        rows, z = self._scores(step)
        ratios, states = calibration.log_ratio(z), camera.states_of(rows)
        ratios, states = ratios[states != NONE], states[states != NONE]
        if then_from_now is not None:
            order = np.argsort(ratios)  # of several that lead to one the likeliest counts
            states = track.filter.moved(states[order], then_from_now)
            ratios, states = ratios[order][states != NONE], states[states != NONE]
        place = self._place(camera, query, rows)
        evidence = Evidence(states, ratios, calibration.low, *place, camera.unseen)
        doubt, new = 0.0, camera.information * track.weight()
        if len(track.cameras) > 1 and camera.information > 0.0:
            camera.support = track.filter.support(evidence, camera.information)
            doubt = track.doubt_of(camera, self._model)
        track.filter.update(evidence, new, doubt, track.seeing())

    def _place(
        self, camera: VehicleCamera, query: Query, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], float, float]:
        """States of the best place [k], the log odds that it is the right one, and the share of it
        that the images before have not spoken for."""
        positions, reach = self._localizer.map.poses[:, :3], self._localizer.reach
        scores = self._localizer.fine_scores(query, rows).astype(np.float64)
        order = np.argsort(-scores)
        lead = place_lead(scores[order], positions[rows[order]], reach)
        log_odds = place_log_odds(lead, self._calibration)
        best = positions[rows[order[0]]]
        states = camera.states_of(self._localizer.rows_near(best, reach))
        fresh = camera.fresh(best, self._localizer.spacing)
        return states[states != NONE], log_odds, fresh

    def _scores(self, step: Step) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """z-scores of the candidates and of the plausible map images: rows of the map, fine and
        coarse [n, 2]."""
        query, track, localizer = step.query, step.track, self._localizer
        candidates, place_map = step.candidates.rows, localizer.map
        rows = np.concatenate([candidates, np.setdiff1d(step.plausible, candidates)])
        fine = localizer.fine_scores(query, rows)
        coarse = localizer.coarse_scores(query, rows)
        z, samples = np.zeros((len(rows), 2)), localizer.background_scores(query)
        for camera in query.cameras:  # a road ahead resembles any road ahead more than a front door
            of = place_map.camera_of[rows] == place_map.camera_names.index(camera)
            if of.any():
                z[of, 0] = z_scores(fine[of], samples[camera])
                z[of, 1] = track.scale(camera, localizer).z(query.coarse, coarse[of])
        return rows, z

    def probability(self, step: Step) -> float:
        """Probability of the answer's place before keypoints are compared."""
        return self._belief(step, _now_from_then(step)).probability

    def answer(
        self,
        step: Step,
        config: LocalizerConfig,
        verified: Sequence[Verification] = (),
    ) -> Answer:
        """Returns the answer of the whole sequence."""
        query, track, camera = step.query, step.track, step.camera
        now_from_then = _now_from_then(step)
        trusted = _tells_pose(step, now_from_then)
        belief = self._belief(step, now_from_then, verified)
        row, mapping_mount, vehicle_mount = track.image_at(belief.row, query.camera)
        if now_from_then is not None:
            belief = replace(belief, map_from_base=belief.map_from_base @ now_from_then)
        scales, inliers = (track.errors[0].value, track.errors[1].value), 0
        if trusted and camera.rows[belief.row] != NONE:
            pose, inliers, innovations = self._localizer.refine(
                query, belief, row, mapping_mount, self._calibration, verified, scales
            )
            for errors, innovation in zip(track.errors, innovations, strict=True):
                if belief.probability >= LIKELY and np.isfinite(innovation):
                    errors.add(innovation, camera.information)
        else:
            calibration = self._calibration.of(query.domain.name)
            covariance = belief.bend + calibration.across(belief.steps, scales)
            covariance += belief.covariance + calibration.progress(belief.steps)
            pose = PoseWithCovariance(belief.map_from_base, covariance)
        pose = _of_vehicle(pose, mapping_mount, vehicle_mount)
        answer = self._localizer.answer(query, step.candidates, belief, row, pose, config)
        return replace(
            answer,
            tracked=True,
            on_map=belief.on_map,
            inliers=inliers,
            alone=step.alone if len(self._names) > 1 else "",
            doubt=camera.doubt,
        )

    def _belief(
        self,
        step: Step,
        now_from_then: Transform | None,
        verified: Sequence[Verification] = (),
    ) -> Belief:
        """The belief, by the last images of cameras that see the likeliest place; one of all images
        of a moment unless places were verified by this camera's."""
        track, camera, mode = step.track, step.camera, step.track.filter.mode
        together = track.together(camera) if _tells_pose(step, now_from_then) else []
        together = [other for other in together if other.rows[mode] != NONE]
        # Fewer inliers are chance, and a neighbour that was not compared has none.
        weights = {item.row: item.weight for item in verified if item.weight >= STRONG}

        def detail(states: NDArray[np.int64]) -> NDArray[np.float64]:
            details = [self._details(other, states) for other in together]
            similarity: NDArray[np.float64] = np.mean(details, axis=0)
            similarity += [weights.get(int(row), 0.0) for row in camera.rows[states]]
            return similarity

        temper = 1.0 if verified else TEMPER
        key = tuple(map(id, together))
        if verified or key not in track.beliefs:
            belief = track.filter.belief(detail if together else None, temper)
            if verified:
                return belief
            track.beliefs[key] = belief
        return track.beliefs[key]

    def _details(self, camera: VehicleCamera, states: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-weights [n] of states by a camera's last image; of those that it does not see, their
        mean."""
        assert camera.query is not None
        rows = camera.rows[states]
        mapped = rows != NONE
        fine = self._localizer.fine_scores(camera.query, rows[mapped]).astype(np.float64)
        similarity = np.full(len(rows), fine.mean() / TEMPERATURE if len(fine) else 0.0)
        similarity[mapped] = fine / TEMPERATURE
        return similarity

    def _step(self, query: Query, odometry: Reading | None, informative: bool) -> Step:
        """The sequence that an image belongs to, and its camera there."""
        place_map, alone = self._localizer.map, self._exclusion_reason(query)
        self._names.add(query.camera)
        if alone:
            if query.camera not in self._alone:
                places = Places.of_camera(place_map, query.view_matches[0].camera)
                self._alone[query.camera] = Track(places, self._model)
            track = self._alone[query.camera]
        else:
            if self._vehicle is None:
                self._vehicle = Track(Places.of_map(place_map), self._model)
            track = self._vehicle
        camera = track.cameras.get(query.camera)
        matches = query.view_matches
        if camera is None or (
            camera.view_matches is not matches and camera.view_matches != matches
        ):
            camera = track.add(query, self._localizer)
        odometry = track.of_mapping_base(odometry, query)
        return Step(self, query, track, camera, alone, informative, odometry)

    def _exclusion_reason(self, query: Query) -> str:
        """Why an image is not of the vehicle's sequence; empty: it is."""
        if not query.placed:
            return NO_MOUNT
        stamp_ns, others = query.frame.stamp_ns, self._vehicle.cameras if self._vehicle else {}
        if stamp_ns is None:
            return NO_STAMP if set(others) - {query.camera} else ""
        return "" if self._clocks.agrees(query.camera, stamp_ns) else CLOCK


def _now_from_then(step: Step) -> Transform | None:
    """Motion of the vehicle since an image that came late; None: it did not."""
    camera = step.camera
    return motion(step.track.odometry, camera.odometry) if camera.late else None


def _tells_pose(step: Step, now_from_then: Transform | None) -> bool:
    """Whether an image tells where the vehicle is now: the camera sees the map, and the vehicle has
    not moved since by a step."""
    moved = now_from_then is not None and step.track.filter.is_step(now_from_then)
    return step.camera.doubt < DOUBTED and not moved


def _motion_model(config: LocalizerConfig) -> MotionModel:
    return MotionModel(config.max_speed, config.sequence.odometry_noise)


def _of_vehicle(
    pose: PoseWithCovariance, mapping_mount: Transform, base_from_camera: Transform
) -> PoseWithCovariance:
    """map_from_base of this vehicle from that of the mapping vehicle, by their common camera."""
    map_from_base = (pose.pose @ mapping_mount) @ base_from_camera.inverse()
    if mapping_mount == base_from_camera:
        return PoseWithCovariance(map_from_base, pose.covariance)
    moved = pose.with_lever_arm(mapping_mount @ base_from_camera.inverse())
    return PoseWithCovariance(map_from_base, moved.covariance)
