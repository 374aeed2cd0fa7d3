# SPDX-License-Identifier: Apache-2.0
"""Loop closure detection: keyframe retrieval, consistency, geometric verification.

The drive's own keyframes are kept with their descriptors and, where there is any, odometry. A new
keyframe retrieves the most similar one that is old enough and lies far enough back along the path,
by coarse candidates and fine re-ranking as a query on the map (localizer.py). The keypoints of the
two images must agree on a relative pose (loop_verification.py), and the loop must not need more
drift than odometry is capable of. A match of many inliers is accepted by itself. Of others the
matches of consecutive keyframes must lie as far apart as odometry says, or, where it does not know,
advance along the path as the vehicle does, and one is reported per place.

Without odometry the view measures the path, and the translation between the two
images is known in direction only. Images of the prebuilt map are matched by the localizer and pass
the same consistency check, by odometry.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LoopClosureConfig
from disam_ros.errors import LoopClosureError
from disam_ros.geometry import PoseWithCovariance, Transform, distance
from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.slam.keyframe_depths import KeyframeDepths, View
from disam_ros.slam.keyframes import DrivenPath, Keyframe, KeyframeDatabase, unit
from disam_ros.slam.loop_closure_message import MAP, OWN, LoopClosure
from disam_ros.slam.loop_verification import SLACK, ConsistencyCheck, RelativePose, verify_loop
from disam_ros.slam.map_match import MapMatch

KEYFRAME_ANGLE = 30.0  # degrees of turn after which an image is a keyframe although it is near
MAX_KEYFRAMES = 2000  # beyond, every other one is removed and the distance between them doubled
MIN_AGE = 30.0  # seconds before a keyframe may be matched
CANDIDATES = 20  # keyframes of the coarse retrieval that are re-ranked
CONSISTENT_KEYFRAMES = 5  # consecutive ones whose matches must agree with odometry
SURE_INLIERS = 50  # of keypoints, from which on a match is accepted by itself,
SURE_SHARE = 2 / 3  # with this share of the configured similarity
MAX_DRIFT = 0.2  # metres of odometry's error per metre driven
PLACE_DISTANCE = 10.0  # metres driven between two loop closures of few inliers: one per place
POSITION_SIGMA = 1.5  # metres, of an unverified match, on top of the keyframe distance
UNSCALED_SIGMA = 5.0  # metres between two similar images, where the keyframe distance is unknown
ANGLE_SIGMA = 5.0  # degrees between the headings of an unverified match


class LoopCloser:
    """Detects loop closures of one camera's drive; takes every image in order.

    A keyframe takes its descriptors and 144 bytes a keypoint: 23 + 37 kB with `outdoor` and 256.
    consistent_keyframes: None: CONSISTENT_KEYFRAMES; 1: single matches are accepted.
    """

    def __init__(self, config: LoopClosureConfig, consistent_keyframes: int | None = None) -> None:
        self._config, self._depths = config, KeyframeDepths(config.keypoints)
        self._keyframes = KeyframeDatabase(MAX_KEYFRAMES)
        self._spacing = config.keyframe_distance  # metres between keyframes, grows
        self._least = SURE_SHARE * config.score_threshold  # similarity of a match
        self._path = DrivenPath(config.keyframe_distance, self._least)
        length = consistent_keyframes or CONSISTENT_KEYFRAMES
        self._checks = {kind: ConsistencyCheck(length) for kind in (OWN, MAP)}
        self._reported_at = dict.fromkeys(self._checks, -np.inf)  # metres travelled
        self._last: dict[str, Keyframe] = {}  # keyframe, or image compared with the map
        self._stamp_ns: int | None = None  # of the last image

    def __len__(self) -> int:
        """Number of keyframes of the drive."""
        return len(self._keyframes)

    def stamps_ns(self) -> list[int]:
        """Stamps of the keyframes of the drive."""
        return self._keyframes.stamps_ns()

    def add(
        self,
        stamp_ns: int,
        odometry: Reading | None,
        coarse: NDArray[Any],
        fine: NDArray[Any],
        view: View | None = None,
    ) -> list[LoopClosure]:
        """Loop closures, most often none, of an image of the drive with itself.

        odometry: at its stamp; None: unknown. coarse, fine: descriptors [d] and [C, h, w]. view:
        for verification; None: none. Raises LoopClosureError for a stamp before the last one, or
        descriptors of another length, not finite or all 0; ImageError.
        """
        coarse, fine = unit(coarse), unit(fine)
        now = self._arrived(stamp_ns, odometry, fine)
        if not self._config.keypoints:
            view = None
        if not self._is_next(OWN, now, self._spacing):
            if view is not None:
                self._depths.observe(view, odometry, self._spacing / 2)
            return []
        if view is not None:
            now = replace(now, keypoints=self._depths.add(view, odometry))
        closure = self._detect(now, coarse, fine)
        if self._keyframes.add(now, coarse, fine):
            self._spacing *= 2
        return [] if closure is None else [closure]

    def add_map_match(
        self, stamp_ns: int, odometry: Reading, match: MapMatch | None
    ) -> list[LoopClosure]:
        """Loop closures of an image with the map. match: None: unknown place.

        May be called before or after `add` with the same image. Raises LoopClosureError for a stamp
        before the last one.
        """
        now, check = self._arrived(stamp_ns, odometry), self._checks[MAP]
        last = self._last.get(MAP)
        if not self._is_next(MAP, now, self._config.keyframe_distance):
            return []
        if match is None:
            check.reset()
            return []
        if last is None or motion(last.odometry, odometry) is None:
            check.reset()
        place = Keyframe(match.stamp_ns, Reading(match.map_from_base, 0.0, 0), 0.0)
        check.add(place, now, match.spacing)
        if not self._accepts(MAP):
            return []
        self._reported_at[MAP] = self._path.travelled
        closure = LoopClosure(
            stamp_ns=stamp_ns,
            keyframe_stamp_ns=match.stamp_ns,
            keyframe_from_base=match.keyframe_from_base or _same_place(_spread(match.spacing)),
            score=match.score,
            inliers=match.inliers,
            kind=MAP,
            map_from_keyframe=match.map_from_base,
            metric=match.keyframe_from_base is not None,
        )
        return [closure]

    def _arrived(
        self, stamp_ns: int, odometry: Reading | None, fine: NDArray[np.float32] | None = None
    ) -> Keyframe:
        """The image as a keyframe without keypoints, with the distance travelled."""
        if self._stamp_ns is not None and stamp_ns < self._stamp_ns:
            raise LoopClosureError(
                f"expected images in order of time, got {stamp_ns} ns after {self._stamp_ns} ns; "
                "start a new drive where the clock was set back"
            )
        self._stamp_ns = stamp_ns
        if odometry is not None:
            self._path.by_odometry(odometry)
        elif fine is not None:
            self._path.by_view(fine)
        return Keyframe(stamp_ns, odometry, self._path.travelled)

    def _is_next(self, kind: str, now: Keyframe, spacing: float) -> bool:
        """Whether the image is far enough from the last that was taken; then it is the last."""
        last = self._last.get(kind)
        if last is not None:
            moved = motion(last.odometry, now.odometry)
            metres, degrees = now.travelled - last.travelled, 0.0
            if moved is not None:
                metres, degrees = distance(Transform.identity(), moved)
            if metres < spacing and degrees < KEYFRAME_ANGLE:
                return False
        self._last[kind] = now
        return True

    def _detect(
        self, now: Keyframe, coarse: NDArray[np.float32], fine: NDArray[np.float32]
    ) -> LoopClosure | None:
        config, check = self._config, self._checks[OWN]
        latest = replace(
            now,
            stamp_ns=now.stamp_ns - round(MIN_AGE * 1e9),
            travelled=now.travelled - config.min_path,
        )
        match = self._keyframes.best_match(coarse, fine, latest, CANDIDATES)
        if match is None or match[1] < self._least or self._drifts(match[0], now):
            check.reset()
            return None
        then, score = match
        verified = self._verified(then, now)
        sure = verified is not None and verified.inliers >= SURE_INLIERS
        if score < config.score_threshold and not sure:
            check.reset()
            return None
        check.add(then, now, self._spacing)
        if verified is None or not self._accepts(OWN, sure):
            return None
        self._reported_at[OWN] = now.travelled
        return LoopClosure(
            stamp_ns=now.stamp_ns,
            keyframe_stamp_ns=then.stamp_ns,
            keyframe_from_base=verified.pose,
            score=score,
            inliers=verified.inliers,
            metric=verified.metric,
        )

    def _verified(self, then: Keyframe, now: Keyframe) -> RelativePose | None:
        """The relative pose, by keypoints where both have some; None: they contradict."""
        scaled = then.odometry is not None
        unverified = _same_place(_spread(self._spacing) if scaled else UNSCALED_SIGMA)
        if then.keypoints is None or now.keypoints is None:
            return RelativePose(unverified)
        return verify_loop(then.keypoints, now.keypoints, unverified, scaled)

    def _accepts(self, kind: str, sure: bool = False) -> bool:
        """Whether the match is sure by its inliers, or enough matches agree and the last loop
        closure was at another place."""
        driven = self._path.travelled - self._reported_at[kind]
        return sure or (self._checks[kind].consistent and driven >= PLACE_DISTANCE)

    def _drifts(self, then: Keyframe, now: Keyframe) -> bool:
        """Whether these can be one place only if odometry drifted more than it can."""
        moved = motion(then.odometry, now.odometry)
        if moved is None:
            return False
        allowed = MAX_DRIFT * (now.travelled - then.travelled)
        return float(np.linalg.norm(moved.translation)) > allowed + SLACK + self._spacing


def _spread(spacing: float) -> float:
    """Standard deviation of an unverified match [m] with images evenly so many metres apart."""
    return float(np.sqrt(POSITION_SIGMA**2 + spacing**2 / 12))


def _same_place(sigma: float) -> PoseWithCovariance:
    """Identity relative pose with the covariance of an unverified match. sigma: metres."""
    angle = np.radians(ANGLE_SIGMA)
    return PoseWithCovariance(Transform.identity(), np.diag([sigma] * 3 + [angle] * 3) ** 2)
