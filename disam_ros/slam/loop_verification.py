# SPDX-License-Identifier: Apache-2.0
"""Verification of a loop closure: relative pose of two keyframes by their keypoints, consistency of
consecutive matches by odometry or by the order of the places.

Numbers were chosen on validation drives through the season town, by day and by night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.features.epipolar_pose import epipolar_pose
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.matching import match
from disam_ros.features.relative_pose import relative_pose
from disam_ros.geometry import PoseWithCovariance, distance
from disam_ros.localization.sequence.odometry import motion
from disam_ros.slam.keyframe_depths import FEATURES
from disam_ros.slam.keyframes import Keyframe

MIN_INLIERS = 12  # images of different places have fewer
MIN_DEPTHS = 12  # inliers of known depth that measure the length of the translation
MIN_KEYPOINTS = 24  # of an image, below which it cannot contradict
SCALE_SIGMA = 0.03  # odometry's relative scale error, which is that of depths, too
DIRECTION_SIGMA = 0.1  # radians by which a direction of motion errs at least
SLACK = 2.0  # metres, on top of the spacing of images, by which match and odometry may disagree
ANGLE = 15.0  # degrees by which they may
STRETCH = 1.5  # factor by which distances driven may, where odometry does not relate the places
# 1 σ of errors that all keypoints of an image share: metres, radians
FLOOR = np.array([0.05] * 3 + [np.radians(0.2)] * 3)

Match = tuple[Keyframe, Keyframe]  # the place then, and the image now


@dataclass(frozen=True, eq=False)
class RelativePose:
    """The motion between two visits of a place."""

    pose: PoseWithCovariance  # keyframe_from_base
    inliers: int = 0  # keypoints that agree; 0: none were compared
    metric: bool = False  # whether the length of the translation was measured


def verify_loop(
    then: Keypoints, now: Keypoints, unverified: PoseWithCovariance, scaled: bool = True
) -> RelativePose | None:
    """The relative pose that the keypoints of the keyframe and of the image now agree on.

    unverified: the pose without them; its covariance is the prior, and it is returned with 0
    inliers where an image has fewer than MIN_KEYPOINTS. scaled: whether odometry could triangulate
    the keyframe's keypoints; else the translation is known in direction only: it has unit length,
    as uncertain as the prior. None where fewer than MIN_INLIERS agree: two different places.
    """
    if min(len(then), len(now)) < MIN_KEYPOINTS:
        return RelativePose(unverified)
    rows_now, rows_then = match(FEATURES, now.descriptors, then.descriptors).T
    then_matched, now_matched = then[rows_then], now[rows_now]
    if scaled:
        estimate = relative_pose(then_matched, now_matched, unverified.covariance)
    else:
        estimate = epipolar_pose(then_matched, now_matched)
    if estimate is None or estimate.inliers.sum() < MIN_INLIERS:
        return None
    metric = bool((then_matched.precisions > 0)[estimate.inliers].sum() >= MIN_DEPTHS)
    cameras = estimate.world_from_camera
    if not scaled:
        cameras = of_unknown_scale(cameras, float(np.sqrt(unverified.covariance[0, 0])))
    covariance = cameras.covariance + np.diag(FLOOR) ** 2
    shift = SCALE_SIGMA * cameras.pose.translation
    covariance[:3, :3] += np.outer(shift, shift)
    cameras = PoseWithCovariance(cameras.pose, covariance)
    return RelativePose(pose_of_base(cameras, then, now), int(estimate.inliers.sum()), metric)


def of_unknown_scale(pose: PoseWithCovariance, sigma: float) -> PoseWithCovariance:
    """A pose with a translation of unit length as one of unknown length, `sigma` metres or so.

    Errors across its direction, those of the pose and DIRECTION_SIGMA, grow with the length.
    """
    stretch, direction = np.diag([sigma] * 3 + [1.0] * 3), pose.pose.translation
    covariance = stretch @ pose.covariance @ stretch
    covariance[:3, :3] += sigma**2 * (
        np.outer(direction, direction) + DIRECTION_SIGMA**2 * np.eye(3)
    )
    return PoseWithCovariance(pose.pose, covariance)


def pose_of_base(
    then_from_now: PoseWithCovariance, then: Keypoints, now: Keypoints
) -> PoseWithCovariance:
    """The relative pose of the vehicle's base from that of its camera, which may be mounted
    differently in the two images."""
    mount_then = then.calibrated_camera.base_from_camera
    mount_now = now.calibrated_camera.base_from_camera
    return then_from_now.transformed(mount_then).with_lever_arm(mount_now.inverse())


class ConsistencyCheck:
    """Tests whether the last `length` matches lie to each other as the images now do."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._matches: list[Match] = []

    def reset(self) -> None:
        """Start a new sequence of matches."""
        self._matches = []

    def add(self, then: Keyframe, now: Keyframe, spacing: float) -> None:
        """Adds a match. spacing: metres between the images that may be matched.

        A contradiction starts a new sequence with this match.
        """
        match = then, now
        if not all(_agree(other, match, SLACK + spacing) for other in self._matches):
            self.reset()
        self._matches = [*self._matches, match][-self._length :]

    @property
    def consistent(self) -> bool:
        """Whether enough matches agree."""
        return len(self._matches) >= self._length


def _agree(a: Match, b: Match, slack: float) -> bool:
    """Whether the places then are related as the images now: by odometry where it relates both
    pairs, else by the distances driven, so that revisited places advance with the vehicle."""
    then, now = motion(a[0].odometry, b[0].odometry), motion(a[1].odometry, b[1].odometry)
    if then is not None and now is not None:
        gap, turn = distance(then, now)
        return gap <= slack and turn <= ANGLE
    revisited = abs(b[0].travelled - a[0].travelled)
    driven = abs(b[1].travelled - a[1].travelled)
    return driven / STRETCH - slack <= revisited <= driven * STRETCH + slack
