# SPDX-License-Identifier: Apache-2.0
"""Geometric verification of a loop closure: relative pose of two keyframes by their keypoints.

Numbers were chosen on validation drives through the season town, by day and by night.
"""

from __future__ import annotations

import numpy as np

from disam_ros.features.keypoints import Keypoints
from disam_ros.features.matching import match
from disam_ros.features.relative_pose import relative_pose
from disam_ros.slam.keyframe_depths import FEATURES
from disam_ros.uncertainty import PoseWithCovariance

MIN_INLIERS = 12  # images of different places have fewer
MIN_KEYPOINTS = 24  # of an image, below which it cannot contradict
SCALE_SIGMA = 0.03  # odometry's relative scale error, which is that of depths, too
FLOOR_METRES, FLOOR_DEGREES = 0.05, 0.2  # 1 σ of errors that all keypoints of an image share


def verify_loop(
    then: Keypoints, now: Keypoints, unverified: PoseWithCovariance
) -> tuple[PoseWithCovariance, int] | None:
    """`keyframe_from_base` of a vehicle that met a place again, and the number of inliers.

    then, now: keypoints of the keyframe and of the image now. unverified: the pose without them;
    its covariance is the prior, and it is returned with 0 inliers where an image has fewer than
    MIN_KEYPOINTS. None where fewer than MIN_INLIERS agree: two different places.
    """
    if min(len(then), len(now)) < MIN_KEYPOINTS:
        return unverified, 0
    rows_now, rows_then = match(FEATURES, now.descriptors, then.descriptors).T
    found = relative_pose(then[rows_then], now[rows_now], unverified.covariance)
    if found is None or found.inliers.sum() < MIN_INLIERS:
        return None
    then_from_now = found.world_from_camera.pose
    radians = np.radians(FLOOR_DEGREES)
    covariance = found.world_from_camera.covariance
    covariance = covariance + np.diag([FLOOR_METRES] * 3 + [radians] * 3) ** 2
    shift = SCALE_SIGMA * then_from_now.translation
    covariance[:3, :3] += np.outer(shift, shift)
    cameras = PoseWithCovariance(then_from_now, covariance)
    return pose_of_base(cameras, then, now), int(found.inliers.sum())


def pose_of_base(
    then_from_now: PoseWithCovariance, then: Keypoints, now: Keypoints
) -> PoseWithCovariance:
    """The relative pose of the vehicle's base from that of its camera, which may be mounted
    differently in the two images."""
    mount_then = then.calibrated_camera.base_from_camera
    mount_now = now.calibrated_camera.base_from_camera
    return then_from_now.transformed(mount_then).with_lever_arm(mount_now.inverse())
