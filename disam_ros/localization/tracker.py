# SPDX-License-Identifier: Apache-2.0
"""Answers that agree with the images before: evidence of each image, motion, belief (filter.py)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.camera import Camera
from disam_ros.geometry import Transform
from disam_ros.localization.bayes_filter import SequenceFilter
from disam_ros.localization.calibration import ScoreScale
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.result import Estimate, Localization
from disam_ros.localization.verification import (
    MAX_CANDIDATES,
    RATIO_PER_INLIER,
    Verification,
    Verifier,
    worth_verifying,
)
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.uncertainty import TEMPERATURE, fused

CANDIDATES = 50  # map images whose score is looked at besides those that the belief follows
SPREAD = 0.25  # weight of the images' spread in the covariance: most of it is the map's spacing
NS = 1e-9
CONFLICT = 22.5  # squared Mahalanobis distance that true covariances leave in one of 1000 cases
NEIGHBOURS = 2000  # pairs of map images whose likeness is looked at, at most
LONGEST = 10.0  # seconds between images after which a sequence begins anew


@dataclass
class _Track:
    """The filter of one camera and what it saw last."""

    filter: SequenceFilter
    scale: ScoreScale
    alike: float  # cosine of the coarse descriptors of neighbouring map images
    coarse: np.ndarray | None = None
    stamp_ns: int = 0
    odom_from_base: Transform | None = None
    drive: int = 0

    def novelty(self, coarse: np.ndarray) -> float:
        """What share of an image's evidence its predecessor has not given, 0…1: none of an image
        like it, as where the vehicle stands, all of one as different as neighbours of the map."""
        before, self.coarse = self.coarse, coarse
        if before is None:
            return 1.0
        cosine = before @ coarse / max(np.linalg.norm(before) * np.linalg.norm(coarse), 1e-12)
        return float(np.clip((1.0 - cosine) / max(1.0 - self.alike, 1e-6), 0.0, 1.0))


class Tracker:
    """Follows one vehicle. Images of each camera make a sequence of their own."""

    def __init__(self, localizer: Localizer) -> None:
        self._localizer, self._calibration = localizer, localizer.calibration
        self._tracks: dict[str, _Track] = {}
        wanted = localizer.config.verify.when != "never"
        kept = localizer.map.header.keypoints is not None
        self._verifier = (
            Verifier(localizer.map, localizer.config.verify) if wanted and kept else None
        )

    def reset(self) -> None:
        """Forget all sequences."""
        self._tracks.clear()

    def follow(
        self,
        found: Localization,
        stamp_ns: int | None,
        odom_from_base: Transform | None = None,
        drive: int = 0,
        believe: bool = True,
        image: np.ndarray | None = None,
        camera: Camera | None = None,
    ) -> Localization:
        """The localization with an estimate from the whole sequence.

        stamp_ns: None: unknown; the image then stands alone. odom_from_base: odometry at the
        image's time; None where there is none. drive: number of odometry's frame: between different
        ones the motion is unknown. believe: whether the image is evidence. image: uint8 RGB, for
        verification where the map keeps points (verify.py). camera: this vehicle's, None: mounted
        and calibrated as the mapping vehicle's. A stamp before the last one, or one long after it,
        begins a sequence anew.
        """
        began = time.perf_counter()
        track = self._track(found.camera)
        mount = mount_of(self._localizer.map, found.camera)
        odom_from_base = _of_mapping_base(odom_from_base, camera, mount)
        seconds = NS * ((stamp_ns or 0) - track.stamp_ns)
        motion = None
        if stamp_ns is None or not track.stamp_ns or not 0.0 <= seconds <= LONGEST:
            track.filter.reset()
            track.coarse = None
        elif drive == track.drive:
            motion = _motion(track.odom_from_base, odom_from_base)
        new = float(track.filter.predict(motion, max(0.0, seconds)))
        track.stamp_ns, track.odom_from_base, track.drive = stamp_ns or 0, odom_from_base, drive
        if believe:
            novelty = track.novelty(found.coarse)
            new *= novelty if motion is None else 1.0
            track.filter.update(*self._evidence(found, track), new)
        estimate = self._estimate(track.filter, found)
        if image is not None and believe and self._verifier is not None:
            estimate = self._verified(image, camera, found, track.filter, estimate, new)
        spent = 1e3 * (time.perf_counter() - began)
        laps = found.timings_ms | {"sequence": spent}
        laps["total"] = laps.get("total", 0.0) + spent
        return replace(found, estimate=estimate, timings_ms=laps)

    def _track(self, camera: str) -> _Track:
        config = self._localizer.config.sequence
        if camera not in self._tracks:
            place_map = self._localizer.map
            rows = place_map.rows_of(camera)
            poses = poses_of_base(place_map, camera, rows)
            spacing = place_map.spacing()
            self._tracks[camera] = _Track(
                SequenceFilter(poses, spacing, config),
                ScoreScale.of_codes(place_map.coarse[rows], place_map.projection.steps),
                likeness(place_map.coarse[rows], place_map.projection.steps),
            )
        self._tracks[camera].filter.config = config  # it may change on the way
        return self._tracks[camera]

    def _evidence(self, found: Localization, track: _Track) -> tuple[np.ndarray, np.ndarray, float]:
        """Rows among the camera's, their log ratios, and the ratio of all others."""
        rows, scores = self._localizer.scores(found, track.filter.followed, CANDIDATES)
        ratios = self._calibration.log_ratio(track.scale.z(found.coarse, scores))
        return rows, ratios, self._calibration.low

    def _estimate(
        self,
        belief_filter: SequenceFilter,
        found: Localization,
        seen: Sequence[Verification] = (),
    ) -> Estimate:
        rows = self._localizer.map.rows_of(found.camera)
        inliers = {item.row: item.inliers for item in seen}

        def detail(some: np.ndarray) -> np.ndarray:
            alike = self._localizer.fine_scores(found, rows[some]) / TEMPERATURE
            agreeing = np.array([inliers.get(int(row), 0) for row in rows[some]])
            return alike + RATIO_PER_INLIER * agreeing

        belief = belief_filter.belief(detail)
        return Estimate(
            map_from_base=belief.map_from_base,
            covariance=SPREAD * belief.covariance + self._calibration.floor(),
            spread=belief.covariance,
            probability=belief.probability,
            on_map=belief.on_map,
            record=self._localizer.map.records[rows[belief.row]],
            known=belief.probability >= self._localizer.config.sequence.least_probability,
            base_from_camera=mount_of(self._localizer.map, found.camera),
        )

    def _verified(
        self,
        image: np.ndarray,
        camera: Camera | None,
        found: Localization,
        belief_filter: SequenceFilter,
        estimate: Estimate,
        new: float,
    ) -> Estimate:
        """The estimate after a look at points, where it can change: they weigh in the belief, and
        a pose that they give in the likeliest place, in metres, in the answer."""
        config = self._localizer.config.verify
        if not worth_verifying(estimate.probability, new, config):
            return estimate
        rows = self._localizer.map.rows_of(found.camera)
        likeliest = belief_filter.likeliest(MAX_CANDIDATES)
        seen = self._verifier.verify(image, found.camera, rows[likeliest], camera)
        if seen:
            likeliest = likeliest[: len(seen)]
            belief_filter.update(likeliest, self._verifier.log_ratios(seen), 0.0, new)
        return with_points(self._estimate(belief_filter, found, seen), seen)


def with_points(estimate: Estimate, seen: Sequence[Verification]) -> Estimate:
    """The estimate and the metric pose of most inliers among those that do not contradict it."""
    for item in sorted(seen, key=lambda item: -item.inliers):
        other = item.map_from_base(estimate.base_from_camera)
        if other is None:
            continue
        pose, covariance, gap = fused(
            estimate.map_from_base, estimate.covariance, other.pose, other.covariance
        )
        if gap <= CONFLICT:
            return replace(
                estimate, map_from_base=pose, covariance=covariance, inliers=item.inliers
            )
    return estimate


def mount_of(place_map: PlaceMap, camera: str) -> Transform:
    """base_from_camera of the vehicle that made the map; identity where it tells none."""
    known = place_map.header.cameras.get(camera)
    return known.base_from_camera if known else Transform.identity()


def poses_of_base(place_map: PlaceMap, camera: str, rows: np.ndarray) -> np.ndarray:
    """map_from_base of a camera's images, [N, 7] tx ty tz qx qy qz qw."""
    camera_from_base = mount_of(place_map, camera).inverse()
    rotations = Rotation.from_quat(place_map.poses[rows, 3:])
    positions = place_map.poses[rows, :3] + rotations.apply(camera_from_base.translation)
    turned = rotations * Rotation.from_quat(camera_from_base.quaternion)
    return np.hstack([positions, turned.as_quat()])


def likeness(codes: np.ndarray, steps: np.ndarray) -> float:
    """Cosine that one in ten pairs of neighbours along the drive exceeds; 0 for one image.

    codes: int8 [N, d]; steps: value of one unit [d]; NEIGHBOURS of them, evenly taken.
    """
    first = np.unique(np.linspace(0, max(0, len(codes) - 2), NEIGHBOURS).astype(int))
    if len(codes) < 2:
        return 0.0
    pairs = np.stack([codes[first], codes[first + 1]]) * steps
    unit = pairs / np.maximum(np.linalg.norm(pairs, axis=2, keepdims=True), 1e-12)
    return float(np.quantile((unit[0] * unit[1]).sum(1), 0.9))


def _of_mapping_base(
    odom_from_base: Transform | None, camera: Camera | None, mount: Transform
) -> Transform | None:
    """Odometry of the base that the mapping vehicle had, were its camera this one: it turns about
    another point. An identity as this camera's mount says that it is not known."""
    if odom_from_base is None or camera is None or camera.base_from_camera == Transform.identity():
        return odom_from_base
    return odom_from_base @ camera.base_from_camera @ mount.inverse()


def _motion(before: Transform | None, now: Transform | None) -> Transform | None:
    return None if before is None or now is None else before.inverse() @ now
