# SPDX-License-Identifier: Apache-2.0
"""Loop closure detection: keyframe retrieval, odometry consistency, geometric verification.

The drive's own keyframes are kept with their descriptors and odometry. A new keyframe retrieves the
most similar one that is old enough and lies far enough back along the path, by coarse candidates
and fine re-ranking as a query on the map (localizer.py). The keypoints of the two images must agree
on a relative pose (loop_verification.py), and the loop must not need more drift than odometry is
capable of. A match of many inliers is accepted by itself. Of others the matches of consecutive
keyframes must lie as far apart as odometry says, and one is reported per place. Images of the
prebuilt map are matched by the localizer and pass the same consistency check.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.errors import LoopClosureError
from disam_ros.geometry import Transform, distance
from disam_ros.localization.odometry import JUMP_SLACK
from disam_ros.slam.consistency import SLACK, ConsistencyCheck
from disam_ros.slam.keyframe_depths import KeyframeDepths, View
from disam_ros.slam.keyframes import Keyframe, KeyframeDatabase, unit
from disam_ros.slam.loop_closure_message import MAP, OWN, LoopClosure
from disam_ros.slam.loop_verification import verify_loop
from disam_ros.slam.map_match import MapMatch
from disam_ros.uncertainty import PoseWithCovariance

KEYFRAME_ANGLE = 30.0  # degrees of turn after which an image is a keyframe although it is near
MAX_KEYFRAMES = 2000  # beyond, every other one is removed and the distance between them doubled
MIN_AGE = 30.0  # seconds before a keyframe may be matched
CANDIDATES = 20  # keyframes of the coarse retrieval that are re-ranked
CONSISTENT_KEYFRAMES = 5  # consecutive ones whose matches must agree with odometry
SURE_INLIERS = 50  # of keypoints, from which on a match is accepted by itself,
SURE_SHARE = 2 / 3  # with this share of the configured similarity
MAX_DRIFT = 0.2  # metres of odometry's error per metre driven
MAX_SPEED = 100.0  # metres a second: faster odometry has jumped
PLACE_DISTANCE = 10.0  # metres driven between two loop closures of few inliers: one per place
POSITION_SIGMA = 1.5  # metres, of an unverified match, on top of the keyframe distance
ANGLE_SIGMA = 5.0  # degrees between the headings of an unverified match


class LoopCloser:
    """Detects loop closures of one camera's drive; takes every image in order.

    A keyframe takes its descriptors and 144 bytes a keypoint: 23 + 37 kB with `outdoor` and 256.
    consistent_keyframes: None: CONSISTENT_KEYFRAMES; 1: single matches are accepted.
    """

    def __init__(self, config: LoopClosureConfig, consistent_keyframes: int | None = None) -> None:
        self._config, self._depths = config, KeyframeDepths(config.keypoints)
        self._keyframes = KeyframeDatabase(MAX_KEYFRAMES)
        self._selectors = {
            kind: KeyframeSelector(config.keyframe_distance, KEYFRAME_ANGLE) for kind in (OWN, MAP)
        }
        length = consistent_keyframes or CONSISTENT_KEYFRAMES
        self._checks = {kind: ConsistencyCheck(length) for kind in (OWN, MAP)}
        self._reported_at = dict.fromkeys(self._checks, -np.inf)  # metres travelled
        self._last: tuple[int, Transform | None] | None = None  # stamp and odometry
        self._drive_from_base, self._travelled = Transform.identity(), 0.0

    def __len__(self) -> int:
        """Number of keyframes of the drive."""
        return len(self._keyframes)

    def stamps_ns(self) -> list[int]:
        """Stamps of the keyframes of the drive."""
        return self._keyframes.stamps_ns()

    def add(
        self,
        stamp_ns: int,
        odom_from_base: Transform,
        coarse: NDArray[Any],
        fine: NDArray[Any],
        view: View | None = None,
    ) -> list[LoopClosure]:
        """Loop closures, most often none, of an image of the drive with itself.

        coarse, fine: descriptors [d] and [C, h, w]. view: for verification; None: none. Raises
        LoopClosureError for a stamp before the last one, or descriptors of another length, not
        finite or all 0; ImageError.
        """
        coarse, fine = unit(coarse), unit(fine)
        self._move(stamp_ns, odom_from_base)
        if not self._config.keypoints:
            view = None
        selector = self._selectors[OWN]
        if not selector.keeps("", self._drive_from_base):
            if view is not None:
                self._depths.observe(view, self._drive_from_base, selector.distance / 2)
            return []
        keypoints = None if view is None else self._depths.add(view, self._drive_from_base)
        here = Keyframe(stamp_ns, self._drive_from_base, self._travelled, keypoints)
        closure = self._detect(here, coarse, fine)
        if self._keyframes.add(here, coarse, fine):
            selector.distance *= 2
        return [] if closure is None else [closure]

    def add_map_match(
        self, stamp_ns: int, odom_from_base: Transform, match: MapMatch | None
    ) -> list[LoopClosure]:
        """Loop closures of an image with the map. match: None: unknown place.

        May be called before or after `add` with the same image. Raises LoopClosureError for a stamp
        before the last one.
        """
        self._move(stamp_ns, odom_from_base)
        selector, check = self._selectors[MAP], self._checks[MAP]
        if not selector.keeps("", self._drive_from_base):
            return []
        if match is None:
            check.reset()
            return []
        check.add(match.map_from_base, self._drive_from_base, match.spacing)
        if not self._accepts(MAP):
            return []
        self._reported_at[MAP] = self._travelled
        closure = LoopClosure(
            stamp_ns=stamp_ns,
            keyframe_stamp_ns=match.stamp_ns,
            keyframe_from_base=match.keyframe_from_base or _unverified(match.spacing),
            score=match.score,
            inliers=match.inliers,
            kind=MAP,
            map_from_keyframe=match.map_from_base,
        )
        return [closure]

    def reset_odometry(self) -> None:
        """Odometry starts in another frame; the vehicle is taken to have stood still."""
        if self._last is not None:
            self._last = (self._last[0], None)
        self._depths.reset()
        for check in self._checks.values():
            check.reset()

    def _detect(
        self, here: Keyframe, coarse: NDArray[np.float32], fine: NDArray[np.float32]
    ) -> LoopClosure | None:
        config, check, spacing = self._config, self._checks[OWN], self._selectors[OWN].distance
        latest = replace(
            here,
            stamp_ns=here.stamp_ns - round(MIN_AGE * 1e9),
            travelled=here.travelled - config.min_path,
        )
        found = self._keyframes.best_match(coarse, fine, latest, CANDIDATES)
        least = SURE_SHARE * config.score_threshold
        if found is None or found[1] < least or self._drifts(found[0], here):
            check.reset()
            return None
        then, score = found
        verified: tuple[PoseWithCovariance, int] | None = (_unverified(spacing), 0)
        if then.keypoints is not None and here.keypoints is not None:
            verified = verify_loop(then.keypoints, here.keypoints, _unverified(spacing))
        sure = verified is not None and verified[1] >= SURE_INLIERS
        if score < config.score_threshold and not sure:
            check.reset()
            return None
        check.add(then.drive_from_base, here.drive_from_base, spacing)
        if verified is None or not self._accepts(OWN, sure):
            return None
        self._reported_at[OWN] = self._travelled
        return LoopClosure(here.stamp_ns, then.stamp_ns, verified[0], score, verified[1])

    def _accepts(self, kind: str, sure: bool = False) -> bool:
        """Whether the match is sure by its inliers, or enough matches agree and the last loop
        closure was at another place."""
        driven = self._travelled - self._reported_at[kind]
        return sure or (self._checks[kind].consistent and driven >= PLACE_DISTANCE)

    def _drifts(self, then: Keyframe, here: Keyframe) -> bool:
        """Whether these can be one place only if odometry drifted more than it can."""
        gap, _ = distance(then.drive_from_base, here.drive_from_base)
        allowed = MAX_DRIFT * (here.travelled - then.travelled)
        return gap > allowed + SLACK + self._selectors[OWN].distance

    def _move(self, stamp_ns: int, odom_from_base: Transform) -> None:
        """Integrate odometry; where it jumps, the vehicle is taken to have stood still."""
        if self._last is not None:
            before, odometry = self._last
            if stamp_ns < before:
                raise LoopClosureError(
                    f"expected images in order of time, got {stamp_ns} ns after {before} ns; start "
                    "a new drive where the clock was set back"
                )
            if odometry is not None:
                self._advance(odometry.inverse() @ odom_from_base, (stamp_ns - before) / 1e9)
        self._last = (stamp_ns, odom_from_base)

    def _advance(self, motion: Transform, seconds: float) -> None:
        metres = float(np.linalg.norm(motion.translation))
        if metres > MAX_SPEED * seconds + JUMP_SLACK:
            self.reset_odometry()
            return
        self._drive_from_base = self._drive_from_base @ motion
        self._travelled += metres


def _unverified(spacing: float) -> PoseWithCovariance:
    """Identity relative pose with the covariance of an unverified match."""
    position = POSITION_SIGMA**2 + spacing**2 / 12  # evenly between keyframes
    angle = np.radians(ANGLE_SIGMA) ** 2
    return PoseWithCovariance(Transform.identity(), np.diag([position] * 3 + [angle] * 3))
