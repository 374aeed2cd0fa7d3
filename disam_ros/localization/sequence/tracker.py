# SPDX-License-Identifier: Apache-2.0
"""Sequence tracking: a Bayes filter over map images with image likelihoods and odometry.

A vehicle has one filter, and the images of all its cameras are evidence of where it is: a camera
sees at a place what a map image shows that looks where it does (camera/rig.py, places.py). Where no
map image does, the image says nothing. A camera may as well see nothing of the map at all, with a
probability that rises while it contradicts the place of which the belief is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer, Candidate
from disam_ros.localization.calibration import Calibration, z_scores
from disam_ros.localization.evidence import place_lead, place_log_odds
from disam_ros.localization.image_checks import ClockVote
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Query
from disam_ros.localization.sequence.bayes_filter import Belief, FilterModel, MotionModel
from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.localization.sequence.places import NONE, Places
from disam_ros.localization.sequence.track import DOUBTED, WINDOW, Seen, Track
from disam_ros.localization.verification import Verification, fuse_verified
from disam_ros.uncertainty import TEMPERATURE, PoseWithCovariance

SCORED = 30  # likeliest map images that are scored in addition to the candidates
TEMPER = 0.4  # exponent of the belief in the pose: scores of neighbouring images err together
LIKELY = 0.5  # probability of a place from which its view tells how large errors are
MAX_GAP = 10.0  # time between images after which a sequence starts over [s]
MAX_LATE = 1.0  # by which an image may be older than another camera's to be evidence [s]
NO_MOUNT, NO_STAMP, CLOCK = "its mount is unknown", "no usable stamp", "its clock differs"


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
        """Forget all sequences."""
        self._vehicle: Track | None = None
        self._own: dict[str, Track] = {}
        self._current: dict[str, tuple[Track, Seen, str]] = {}
        self._clocks = ClockVote()
        self._beliefs: dict[tuple[int, ...], Belief] = {}  # since the last evidence

    def update(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        odometry: Reading | None,
        config: LocalizerConfig,
        informative: bool = True,
    ) -> None:
        """Predict with odometry and update with the image's scores.

        candidates: of this image. odometry: at its stamp; None: unknown. informative: False: the
        image is no evidence. An image without stamp, MAX_GAP after the last one or before the last
        one of its camera starts a sequence over; one that comes later than another camera's newer
        image is evidence of where the vehicle was then.
        """
        track, seen = self._choose(query)
        self._beliefs.clear()
        stamp_ns = query.frame.stamp_ns
        seconds = 1e-9 * ((stamp_ns or 0) - track.stamp_ns)
        odometry = track.of_mapping_base(odometry, query)
        several = len(track.cameras) > 1
        late = several and -MAX_LATE <= seconds < 0.0
        if stamp_ns is None or not track.stamp_ns or not (late or 0.0 <= seconds <= MAX_GAP):
            track.start_over()
            track.advance(None, seconds, self._motion_model(config))
            track.stamp_ns, track.odometry = stamp_ns or 0, odometry
        elif not late:
            moved = motion(track.odometry, odometry)
            if moved is not None or not several or seconds >= WINDOW:
                track.advance(moved, seconds, self._motion_model(config))
                track.stamp_ns = stamp_ns
            track.odometry = odometry
        seen.query, seen.stamp_ns = query, stamp_ns or 0
        seen.odometry, seen.late = odometry, -seconds if late else 0.0
        seen.mount = self._localizer.base_from_camera(query.frame)
        unknown = seen.since is None
        seen.information = float(seen.is_new(track.filter))
        then_from_now = motion(odometry, track.odometry) if late else None
        if informative and not (late and then_from_now is None and seen.late > WINDOW):
            independence = seen.independence(query.coarse)
            seen.information *= independence if unknown else 1.0
            self._update(track, seen, query, candidates, then_from_now)

    def _update(
        self,
        track: Track,
        seen: Seen,
        query: Query,
        candidates: Sequence[Candidate],
        then_from_now: Transform | None,
    ) -> None:
        """The measurement update. then_from_now: motion since an image that came late."""
        calibration = self._calibration.of(query.domain.name)
        rows, z = self._scores(track, seen, query, candidates)
        ratios, states = calibration.log_ratio(z), seen.states_of(rows)
        ratios, states = ratios[states != NONE], states[states != NONE]
        if then_from_now is not None:
            order = np.argsort(ratios)  # of several that lead to one the likeliest counts
            states = track.filter.moved(states[order], then_from_now)
            ratios, states = ratios[order][states != NONE], states[states != NONE]
        floor = np.where(seen.rows == NONE, 0.0, calibration.low)
        doubt, new = 0.0, seen.information * track.weight()
        if len(track.cameras) > 1 and seen.information > 0.0:
            seen.support = track.filter.support(states, ratios, floor, seen.information)
            doubt = track.doubt_of(seen, self._model)
        place, log_odds = self._evidence(seen, query, rows)
        track.filter.update(states, ratios, floor, place, log_odds, new, doubt)

    def _evidence(
        self, seen: Seen, query: Query, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], float]:
        """States of the best place [N], and the log odds that it is the right one."""
        positions, reach = self._localizer.map.poses[:, :3], self._localizer.reach
        scores = self._localizer.fine_scores(query, rows).astype(np.float64)
        order = np.argsort(-scores)
        lead = place_lead(scores[order], positions[rows[order]], reach)
        log_odds = place_log_odds(lead, self._calibration)
        near = np.linalg.norm(positions - positions[rows[order[0]]], axis=1) < reach
        known = seen.rows != NONE
        return known & near[np.where(known, seen.rows, 0)], log_odds

    def _scores(
        self, track: Track, seen: Seen, query: Query, candidates: Sequence[Candidate]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """z-scores of the candidates and of the likeliest map images, so that images which the
        coarse search missed are not excluded: rows of the map, fine and coarse [n, 2]."""
        found = np.array([candidate.record.id for candidate in candidates])
        likeliest = seen.rows[track.filter.plausible(SCORED)]
        more = np.setdiff1d(likeliest[likeliest != NONE], found)
        rows = np.concatenate([found, more])
        fine = self._localizer.fine_scores(query, rows)
        coarse = self._localizer.coarse_scores(query, rows)
        z, place_map = np.zeros((len(rows), 2)), self._localizer.map
        samples = self._localizer.background_scores(query)
        for camera in query.cameras:  # a road ahead resembles any road ahead more than a front door
            of = place_map.camera_of[rows] == place_map.camera_names.index(camera)
            if of.any():
                z[of, 0] = z_scores(fine[of], samples[camera])
                z[of, 1] = track.scale(camera, self._localizer).z(query.coarse, coarse[of])
        return rows, z

    def state(self, query: Query) -> tuple[float, float]:
        """Probability of the likeliest place, and the share of new evidence in the last image."""
        track, seen, _ = self._current[query.camera]
        return track.filter.belief().probability, seen.information

    def likeliest(self, query: Query, count: int) -> NDArray[np.int64]:
        """Map rows to verify, int64 [≤ count]: the likeliest ones and the best of other places."""
        track, seen, _ = self._current[query.camera]
        rows = seen.rows[track.filter.likeliest(count)]
        found: NDArray[np.int64] = rows[rows != NONE]
        return found

    def update_verified(
        self, query: Query, verified: Sequence[Verification], ratios: NDArray[np.float64]
    ) -> None:
        """Update with the log likelihood ratios [n] of verified map images."""
        track, seen, _ = self._current[query.camera]
        states = seen.states_of(np.array([item.row for item in verified]))
        self._beliefs.clear()
        doubt = seen.doubt if len(track.cameras) > 1 else 0.0
        new = seen.information * track.weight()
        track.filter.verify(states, ratios, new, doubt)

    def answer(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        config: LocalizerConfig,
        verified: Sequence[Verification] = (),
    ) -> Answer:
        """The answer of the whole sequence. candidates: of this image."""
        place_map = self._localizer.map
        track, seen, alone = self._current[query.camera]
        now_from_then = motion(track.odometry, seen.odometry) if seen.late else None
        moved = now_from_then is not None and track.filter.is_step(now_from_then)
        trusted = seen.doubt < DOUBTED and not moved  # else its image tells no pose of now
        mode = track.filter.mode
        together = track.together(seen) if trusted else []
        together = [each for each in together if each.rows[mode] != NONE]
        belief = self._belief(track, seen, together, verified)
        row, mapping_mount, own_mount = track.image_at(belief.row, query.camera)
        record = place_map.records[row]
        errors = self._calibration.of(query.domain.name)
        progress = belief.covariance + errors.progress(belief.steps)
        scale = track.errors.value
        across = belief.bend + errors.across(belief.steps, scale)
        map_from_base = belief.map_from_base
        if now_from_then is not None:
            map_from_base = map_from_base @ now_from_then
        pose = PoseWithCovariance(map_from_base, across)
        count = 0
        if trusted and seen.rows[belief.row] != NONE:
            pose, distance = self._localizer.with_view(
                query, pose, mapping_mount, record, self._calibration, progress, scale
            )
            if belief.probability >= LIKELY and np.isfinite(distance):
                track.errors.add(distance, seen.information)
            pose, count = fuse_verified(pose, mapping_mount, verified)
        else:
            pose = replace(pose, covariance=across + progress)
        warp = query.frame.warp
        return Answer(
            camera=query.camera,
            domain=query.domain,
            candidates=candidates,
            record=record,
            base_from_camera=self._localizer.base_from_camera(query.frame),
            lens_from_view=None if warp is None else warp.lens_from_view,
            pose=_of_vehicle(pose, mapping_mount, own_mount),
            known=belief.probability >= config.min_probability,
            probability=belief.probability,
            tracked=True,
            on_map=belief.on_map,
            spread=belief.covariance + belief.bend,
            steps=belief.steps,
            spacing=belief.spacing,
            inliers=count,
            alone=alone if len(self._current) > 1 else "",
            doubt=seen.doubt,
        )

    def _belief(
        self, track: Track, seen: Seen, together: Sequence[Seen], verified: Sequence[Verification]
    ) -> Belief:
        """The belief, by the last images of cameras; one of all images of a moment unless places
        were verified by this camera's."""
        weights = {item.row: item.weight for item in verified}

        def detail(states: NDArray[np.int64]) -> NDArray[np.float64]:
            found = [self._details(each, states) for each in together]
            similarity: NDArray[np.float64] = np.mean(found, axis=0)
            similarity += [weights.get(int(row), 0.0) for row in seen.rows[states]]
            return similarity

        key = tuple(map(id, (track, *together)))
        if verified or key not in self._beliefs:
            temper = 1.0 if verified else TEMPER
            belief = track.filter.belief(detail if together else None, temper)
            if verified:
                return belief
            self._beliefs[key] = belief
        return self._beliefs[key]

    def _details(self, seen: Seen, states: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-weights [n] of states by a camera's last image; of those that it does not see, their
        mean."""
        assert seen.query is not None
        rows = seen.rows[states]
        known = rows != NONE
        fine = self._localizer.fine_scores(seen.query, rows[known]).astype(np.float64)
        similarity = np.full(len(rows), fine.mean() / TEMPERATURE if len(fine) else 0.0)
        similarity[known] = fine / TEMPERATURE
        return similarity

    def _motion_model(self, config: LocalizerConfig) -> MotionModel:
        return MotionModel(config.max_speed, config.sequence.odometry_noise)

    def _choose(self, query: Query) -> tuple[Track, Seen]:
        """The sequence that an image belongs to, and its camera there."""
        place_map, alone = self._localizer.map, self._left_out(query)
        if alone:
            if query.camera not in self._own:
                places = Places.of_camera(place_map, query.looks[0].camera)
                self._own[query.camera] = Track(places, self._model)
            track = self._own[query.camera]
        else:
            if self._vehicle is None:
                self._vehicle = Track(Places.of_map(place_map), self._model)
            track = self._vehicle
        seen = track.cameras.get(query.camera)
        if seen is None or (seen.looks is not query.looks and seen.looks != query.looks):
            seen = track.add(query, self._localizer)
        self._current[query.camera] = track, seen, alone
        return track, seen

    def _left_out(self, query: Query) -> str:
        """Why an image is not of the vehicle's sequence; empty: it is."""
        if not query.placed:
            return NO_MOUNT
        stamp_ns, others = query.frame.stamp_ns, self._vehicle.cameras if self._vehicle else {}
        if stamp_ns is None:
            return NO_STAMP if set(others) - {query.camera} else ""
        return "" if self._clocks.agrees(query.camera, stamp_ns) else CLOCK


def _of_vehicle(
    pose: PoseWithCovariance, mapping_mount: Transform, base_from_camera: Transform
) -> PoseWithCovariance:
    """map_from_base of this vehicle from that of the mapping vehicle, by their common camera."""
    map_from_base = (pose.pose @ mapping_mount) @ base_from_camera.inverse()
    if mapping_mount == base_from_camera:
        return PoseWithCovariance(map_from_base, pose.covariance)
    moved = pose.with_lever_arm(mapping_mount @ base_from_camera.inverse())
    return PoseWithCovariance(map_from_base, moved.covariance)
