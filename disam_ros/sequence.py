# SPDX-License-Identifier: Apache-2.0
"""Answers that agree with the images before: evidence of each image, motion, belief (filter.py)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.calibration import ScoreScale
from disam_ros.covariance import TEMPERATURE
from disam_ros.filter import SequenceFilter
from disam_ros.geometry import Transform
from disam_ros.localization import Estimate, Localization
from disam_ros.localizer import Localizer
from disam_ros.place_map import PlaceMap
from disam_ros.verify import Verifier, worth_verifying

CANDIDATES = 50  # map images whose score is looked at besides those that the belief follows
SPREAD = 0.25  # weight of the images' spread in the covariance: most of it is the map's spacing
NS = 1e-9
VERIFIED = 6  # map images that are looked at for points, as long as there is time
LONGEST = 10.0  # seconds between images after which a sequence begins anew


@dataclass
class _Track:
    """The filter of one camera and what it saw last."""

    filter: SequenceFilter
    scale: ScoreScale
    stamp_ns: int = 0
    odom_from_base: Transform | None = None
    drive: int = 0


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
    ) -> Localization:
        """The localization with an estimate from the whole sequence.

        stamp_ns: None: unknown; the image then stands alone. odom_from_base: odometry at the
        image's time; None where there is none. drive: number of odometry's frame: between different
        ones the motion is unknown. believe: whether the image is evidence. image: uint8 RGB, for
        verification where the map keeps points (verify.py). A stamp before the last
        one, or one long after it, begins a sequence anew.
        """
        began = time.perf_counter()
        track = self._track(found.camera)
        seconds = NS * ((stamp_ns or 0) - track.stamp_ns)
        if stamp_ns is None or not track.stamp_ns or not 0.0 <= seconds <= LONGEST:
            track.filter.reset()
            moved = track.filter.predict(None, 0.0)
        else:
            before = track.odom_from_base if drive == track.drive else None
            moved = track.filter.predict(_motion(before, odom_from_base), seconds)
        track.stamp_ns, track.odom_from_base, track.drive = stamp_ns or 0, odom_from_base, drive
        if moved and believe:
            track.filter.update(*self._evidence(found, track))
        estimate = self._estimate(track.filter, found)
        if image is not None and believe and self._verifier is not None:
            estimate = self._verified(image, found, track.filter, estimate, moved)
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
            )
        self._tracks[camera].filter.config = config  # it may change on the way
        return self._tracks[camera]

    def _evidence(self, found: Localization, track: _Track) -> tuple[np.ndarray, np.ndarray, float]:
        """Rows among the camera's, their log ratios, and the ratio of all others."""
        rows, scores = self._localizer.scores(found, track.filter.followed, CANDIDATES)
        ratios = self._calibration.log_ratio(track.scale.z(found.coarse, scores))
        return rows, ratios, self._calibration.low

    def _estimate(self, belief_filter: SequenceFilter, found: Localization) -> Estimate:
        rows = self._localizer.map.rows_of(found.camera)

        def detail(some: np.ndarray) -> np.ndarray:
            return self._localizer.fine_scores(found, rows[some]) / TEMPERATURE

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
        found: Localization,
        belief_filter: SequenceFilter,
        estimate: Estimate,
        moved: bool,
    ) -> Estimate:
        """The estimate after a look at points, where it can change.

        Points weigh in the belief, and a pose that they give in the likeliest place, in metres, is
        the answer.
        """
        config = self._localizer.config.verify
        if not worth_verifying(estimate.probability, 2 * estimate.probability - 1, config):
            return estimate
        rows = self._localizer.map.rows_of(found.camera)
        likeliest = belief_filter.likeliest(VERIFIED)
        seen = self._verifier.verify(image, found.camera, rows[likeliest])
        if not seen:
            return estimate
        if moved:
            likeliest = likeliest[: len(seen)]
            belief_filter.update(likeliest, self._verifier.log_ratios(seen), 0.0)
            estimate = self._estimate(belief_filter, found)
        posed = [item for item in seen if item.metric]
        for item in sorted(posed, key=lambda item: -item.inliers):
            map_from_base, covariance = item.of_base(estimate.base_from_camera)
            gap = map_from_base.translation - estimate.map_from_base.translation
            if np.linalg.norm(gap) <= self._localizer.config.sequence.radius:
                pose = {"map_from_base": map_from_base, "covariance": covariance}
                return replace(estimate, **pose, inliers=item.inliers)
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


def _motion(before: Transform | None, now: Transform | None) -> Transform | None:
    return None if before is None or now is None else before.inverse() @ now
