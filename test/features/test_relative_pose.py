# SPDX-License-Identifier: Apache-2.0
"""Laws of a relative pose from keypoints of uncertain depth."""

import numpy as np
import pytest

from disam_ros.camera import Camera
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.relative_pose import COVARIANCE_INFLATION, relative_pose
from disam_ros.geometry import Transform, distance

CAMERA = Camera(320, 240, 240.0, 240.0, 159.5, 119.5)
SIGMA = np.sqrt(2.0) / 240.0  # of the difference of two bearings
PRIOR = np.diag([3.0] * 3 + [0.0076] * 3)
POSE = Transform.from_xyz_rpy([0.4, -0.1, 0.9, 0.02, -0.05, 0.03])  # then_from_now


def keypoints(bearings, inverse_depths=None, precisions=None):
    nothing = np.zeros(len(bearings))
    return Keypoints(
        pixels=CAMERA.fx * bearings + [CAMERA.cx, CAMERA.cy],
        descriptors=np.zeros((len(bearings), 0), np.uint8),
        inverse_depths=nothing if inverse_depths is None else inverse_depths,
        precisions=nothing if precisions is None else precisions,
        camera=CAMERA,
    )


def matched(rng, count=80, noise=0.0, doubt=0.005, known=1.0, wrong=0.0):
    """Keypoints then and now of points 5 to 40 m ahead, and which match rightly. noise: of
    bearings; doubt: 1/m, of inverse depths; known: share of points whose depth is; wrong: share
    that is matched with another point."""
    depths = rng.uniform(5.0, 40.0, count)
    then = rng.uniform(-0.6, 0.6, (count, 2))
    points = np.column_stack([then, np.ones(count)]) * depths[:, None]
    seen = (points - POSE.translation) @ POSE.rotation
    now = seen[:, :2] / seen[:, 2:] + noise * rng.standard_normal((count, 2))
    bad = rng.random(count) < wrong
    now[bad] = rng.uniform(-0.6, 0.6, (int(bad.sum()), 2))
    sure = rng.random(count) < known
    inverse = np.where(sure, 1.0 / depths + doubt * rng.standard_normal(count), 0.0)
    return keypoints(then, inverse, np.where(sure, doubt**-2, 0.0)), keypoints(now), ~bad


def pose_of(rng, **options):
    then, now, _ = matched(rng, **options)
    return relative_pose(then, now, PRIOR).world_from_camera


def test_exact_matches_give_the_exact_pose():
    then, now, _ = matched(np.random.default_rng(0), doubt=1e-9)
    result = relative_pose(then, now, 1e6 * PRIOR)
    metres, degrees = distance(result.world_from_camera.pose, POSE)
    assert metres < 1e-4 and degrees < 1e-3 and result.inliers.all()


def test_wrong_matches_are_outliers():
    then, now, right = matched(np.random.default_rng(1), noise=SIGMA, wrong=0.4)
    result = relative_pose(then, now, PRIOR)
    assert distance(result.world_from_camera.pose, POSE)[0] < 0.3
    assert result.inliers[right].mean() > 0.9 and result.inliers[~right].mean() < 0.2


@pytest.mark.parametrize(("doubt", "known"), [(0.002, 1.0), (0.02, 1.0), (0.005, 0.4)])
def test_squared_errors_are_as_the_covariance_says_however_uncertain_depths_are(doubt, known):
    rng, squares = np.random.default_rng(2), []
    for _ in range(60):
        result = pose_of(rng, noise=SIGMA, doubt=doubt, known=known)
        turn = result.pose @ POSE.inverse()
        shift = result.pose.translation - POSE.translation
        error = np.concatenate([shift, 2 * turn.quaternion[:3] * np.sign(turn.quaternion[3])])
        squares.append(COVARIANCE_INFLATION * error @ np.linalg.solve(result.covariance, error))
    assert 3.0 < np.mean(squares) < 10.0  # 6 for six normal errors


def test_surer_depths_and_more_of_them_never_make_the_pose_less_certain():
    variances = [
        np.trace(pose_of(np.random.default_rng(3), **options).covariance)
        for options in (
            {"doubt": 0.002},
            {"doubt": 0.02},
            {"known": 0.2, "doubt": 0.02},
            {"known": 0.0},
        )
    ]
    assert variances == sorted(variances)


def test_without_depths_rotation_and_direction_are_observed_and_the_distance_is_not():
    result = pose_of(np.random.default_rng(4), known=0.0)
    turn = distance(result.pose, POSE)[1]
    shift = result.pose.translation
    cosine = shift @ POSE.translation / np.linalg.norm(shift) / np.linalg.norm(POSE.translation)
    assert turn < 0.5 and cosine > 0.97
    axis = POSE.translation / np.linalg.norm(POSE.translation)
    along = axis @ result.covariance[:3, :3] @ axis
    across = np.trace(result.covariance[:3, :3]) - along
    assert along > 5 * across / 2


def test_too_few_matches_give_no_pose():
    then, now, _ = matched(np.random.default_rng(5), count=4)
    assert relative_pose(then, now, PRIOR) is None
    nothing = keypoints(np.zeros((0, 2)))
    assert relative_pose(nothing, nothing, PRIOR) is None
