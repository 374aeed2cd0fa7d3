# SPDX-License-Identifier: Apache-2.0
"""Sequence tracking: a Bayes filter over map images with image likelihoods and odometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, mount
from disam_ros.config import LocalizerConfig
from disam_ros.geometry import Transform, compose
from disam_ros.localization.answer import Answer, Candidate
from disam_ros.localization.calibration import Calibration, ScoreScale, z_scores
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Query
from disam_ros.localization.sequence.bayes_filter import FilterModel, MotionModel, SequenceFilter
from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.localization.verification import Verification, fuse_verified
from disam_ros.uncertainty import TEMPERATURE, PoseWithCovariance

SCORED = 30  # likeliest map images that are scored in addition to the candidates
TEMPER = 0.4  # exponent of the belief in the pose: scores of neighbouring images err together
REFERENCE = 1.0  # displacement after which an image is as different as wholly new evidence [m]
NEIGHBOUR_PAIRS = 2000  # pairs of map images that their similarity is estimated from, at most
MAX_GAP = 10.0  # time between images after which a sequence starts over [s]


@dataclass
class _Track:
    """The filter of one camera and its last image.

    rows: the camera's map images. scale: that coarse scores are normalized by. dissimilarity: of
    map images REFERENCE apart. information: of the last image, 0…1.
    """

    filter: SequenceFilter
    rows: NDArray[np.int64]
    scale: ScoreScale
    dissimilarity: float
    coarse: NDArray[np.float32] | None = None
    stamp_ns: int = 0
    odometry: Reading | None = None
    information: float = 0.0

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


class Tracker:
    """Tracks one vehicle on one map; the images of each camera are a sequence of their own."""

    def __init__(
        self,
        localizer: Localizer,
        calibration: Calibration | None = None,
        model: FilterModel | None = None,
    ) -> None:
        self._localizer, self._model = localizer, model
        self._calibration = calibration or localizer.calibration
        self._tracks: dict[str, _Track] = {}

    def reset(self) -> None:
        """Forget all sequences."""
        self._tracks.clear()

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
        image is no evidence. An image without stamp, before the last one or MAX_GAP after it starts
        a sequence over.
        """
        track, stamp_ns = self._track(query.camera), query.frame.stamp_ns
        seconds = 1e-9 * ((stamp_ns or 0) - track.stamp_ns)
        odometry = self._of_mapping_base(odometry, query)
        moved = None
        if stamp_ns is None or not track.stamp_ns or not 0.0 <= seconds <= MAX_GAP:
            track.filter.reset()
            track.coarse = None
        else:
            moved = motion(track.odometry, odometry)
        model = MotionModel(config.max_speed, config.sequence.odometry_noise)
        track.information = float(track.filter.predict(moved, max(0.0, seconds), model))
        track.stamp_ns, track.odometry = stamp_ns or 0, odometry
        if informative:
            independence = track.independence(query.coarse)
            track.information *= independence if moved is None else 1.0
            calibration = self._calibration.of(query.domain.name)
            rows, z = self._scores(track, query, candidates)
            ratios = calibration.log_ratio(z)
            track.filter.update(rows, ratios, calibration.low, track.information)

    def _scores(
        self, track: _Track, query: Query, candidates: Sequence[Candidate]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """z-scores of the candidates and of the likeliest map images, so that images which the
        coarse search missed are not excluded: rows among the camera's, fine and coarse [n, 2]."""
        found = np.array([candidate.record.id for candidate in candidates])
        more = np.setdiff1d(track.rows[track.filter.likeliest(SCORED)], found)
        every = np.concatenate([found, more])
        rows = np.searchsorted(track.rows, every)
        scores = self._localizer.fine_scores(query, every)
        z_fine = z_scores(scores, self._localizer.background_scores(query))
        z_coarse = track.scale.z(query.coarse, self._localizer.coarse_scores(query, rows))
        return rows, np.column_stack([z_fine, z_coarse])

    def state(self, query: Query) -> tuple[float, float]:
        """Probability of the likeliest place, and the share of new evidence in the last image."""
        track = self._track(query.camera)
        return track.filter.belief().probability, track.information

    def likeliest(self, query: Query, count: int) -> NDArray[np.int64]:
        """Map rows to verify, int64 [≤ count]: the likeliest ones and the best of other places."""
        track = self._track(query.camera)
        return self._localizer.map.rows_of(query.camera)[track.filter.likeliest(count)]

    def update_verified(
        self, query: Query, verified: Sequence[Verification], ratios: NDArray[np.float64]
    ) -> None:
        """Update with the log likelihood ratios [n] of verified map images."""
        track, rows = self._track(query.camera), self._localizer.map.rows_of(query.camera)
        chosen = np.searchsorted(rows, [item.row for item in verified])
        track.filter.update(chosen, ratios, 0.0, track.information)

    def answer(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        config: LocalizerConfig,
        verified: Sequence[Verification] = (),
    ) -> Answer:
        """The answer of the whole sequence. candidates: of this image."""
        place_map, rows = self._localizer.map, self._localizer.map.rows_of(query.camera)
        weights = {item.row: item.weight for item in verified}

        def detail(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
            fine = self._localizer.fine_scores(query, rows[chosen]).astype(np.float64)
            similarity: NDArray[np.float64] = fine / TEMPERATURE
            similarity += [weights.get(int(row), 0.0) for row in rows[chosen]]
            return similarity

        temper = 1.0 if verified else TEMPER
        belief = self._track(query.camera).filter.belief(detail, temper)
        mapping_mount = mount(place_map.header.cameras, query.camera)
        record = place_map.records[rows[belief.row]]
        errors = self._calibration.of(query.domain.name)
        progress = belief.covariance + errors.progress(belief.steps)
        across = belief.bend + errors.across(belief.steps)
        pose = PoseWithCovariance(belief.map_from_base, across)
        pose = self._localizer.with_view(
            query, pose, mapping_mount, record, self._calibration, progress
        )
        pose, count = fuse_verified(pose, mapping_mount, verified)
        base_from_camera, warp = self._localizer.base_from_camera(query.frame), query.frame.warp
        return Answer(
            camera=query.camera,
            domain=query.domain,
            candidates=candidates,
            record=record,
            base_from_camera=base_from_camera,
            lens_from_view=None if warp is None else warp.lens_from_view,
            pose=_of_vehicle(pose, mapping_mount, base_from_camera),
            known=belief.probability >= config.sequence.min_probability,
            confidence=belief.probability,
            tracked=True,
            on_map=belief.on_map,
            spread=belief.covariance + belief.bend,
            steps=belief.steps,
            spacing=belief.spacing,
            inliers=count,
        )

    def _track(self, camera: str) -> _Track:
        if camera not in self._tracks:
            place_map = self._localizer.map
            rows = place_map.rows_of(camera)
            codes, steps = place_map.coarse[rows], place_map.steps
            base_from_camera = mount(place_map.header.cameras, camera)
            poses = compose(place_map.poses[rows], base_from_camera.inverse())
            self._tracks[camera] = _Track(
                SequenceFilter(poses, self._model),
                rows,
                ScoreScale.of_codes(codes, steps),
                neighbour_dissimilarity(codes, steps, poses[:, :3]),
            )
        return self._tracks[camera]

    def _of_mapping_base(self, odometry: Reading | None, query: Query) -> Reading | None:
        """Odometry of the base that the mapping vehicle had if its camera were this one: it turns
        about another point. An identity as this camera's mount counts as unknown."""
        lens: Camera | None = query.frame.lens
        if odometry is None or lens is None or lens.base_from_camera == Transform.identity():
            return odometry
        mapping_mount = mount(self._localizer.map.header.cameras, query.camera)
        moved = odometry.odom_from_base @ lens.base_from_camera @ mapping_mount.inverse()
        return replace(odometry, odom_from_base=moved)


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


def _of_vehicle(
    pose: PoseWithCovariance, mapping_mount: Transform, base_from_camera: Transform
) -> PoseWithCovariance:
    """map_from_base of this vehicle from that of the mapping vehicle, by their common camera."""
    map_from_base = (pose.pose @ mapping_mount) @ base_from_camera.inverse()
    if mapping_mount == base_from_camera:
        return PoseWithCovariance(map_from_base, pose.covariance)
    moved = pose.with_lever_arm(mapping_mount @ base_from_camera.inverse())
    return PoseWithCovariance(map_from_base, moved.covariance)
