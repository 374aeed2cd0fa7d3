# SPDX-License-Identifier: Apache-2.0
"""Laws of a relative pose from points whose depths are known more or less."""

import numpy as np
import pytest

from disam_ros.features.relative_pose import ALIKE, Pairs, relative_pose
from disam_ros.geometry import Transform, distance

NOISE = 1.0 / 240.0
PRIOR = np.diag([3.0] * 3 + [0.0076] * 3)
POSE = Transform.from_xyz_rpy([0.4, -0.1, 0.9, 0.02, -0.05, 0.03])  # then_from_now


def pairs(rng, count=80, noise=0.0, doubt=0.005, known=1.0, wrong=0.0):
    """Points 5 to 40 m ahead. noise: of directions; doubt: 1/m, of inverse depths; known: share of
    points whose depth is; wrong: share that is matched with another point."""
    depths = rng.uniform(5.0, 40.0, count)
    then = rng.uniform(-0.6, 0.6, (count, 2))
    points = np.column_stack([then, np.ones(count)]) * depths[:, None]
    seen = (points - POSE.translation) @ POSE.rotation
    now = seen[:, :2] / seen[:, 2:] + noise * rng.standard_normal((count, 2))
    bad = rng.random(count) < wrong
    now[bad] = rng.uniform(-0.6, 0.6, (int(bad.sum()), 2))
    sure = rng.random(count) < known
    inverse = np.where(sure, 1.0 / depths + doubt * rng.standard_normal(count), 0.0)
    return Pairs(then, now, inverse, np.where(sure, doubt**-2, 0.0), NOISE), ~bad


def test_exact_points_give_the_exact_pose():
    rng = np.random.default_rng(0)
    found = relative_pose(pairs(rng, doubt=1e-9)[0], 1e6 * PRIOR)
    metres, degrees = distance(found.world_from_camera, POSE)
    assert metres < 1e-4 and degrees < 1e-3 and found.inliers.all()


def test_wrong_matches_are_sorted_out():
    rng = np.random.default_rng(1)
    given, right = pairs(rng, noise=NOISE, wrong=0.4)
    found = relative_pose(given, PRIOR)
    assert distance(found.world_from_camera, POSE)[0] < 0.3
    assert found.inliers[right].mean() > 0.9 and found.inliers[~right].mean() < 0.2


@pytest.mark.parametrize(("doubt", "known"), [(0.002, 1.0), (0.02, 1.0), (0.005, 0.4)])
def test_squared_errors_are_what_the_covariance_says_however_doubtful_depths_are(doubt, known):
    rng, squares = np.random.default_rng(2), []
    for _ in range(60):
        found = relative_pose(pairs(rng, noise=NOISE, doubt=doubt, known=known)[0], PRIOR)
        turn = found.world_from_camera @ POSE.inverse()
        shift = found.world_from_camera.translation - POSE.translation
        error = np.concatenate([shift, 2 * turn.quaternion[:3] * np.sign(turn.quaternion[3])])
        squares.append(ALIKE * error @ np.linalg.solve(found.covariance, error))
    assert 3.0 < np.mean(squares) < 10.0  # 6 for six normal errors


def test_surer_depths_and_more_points_never_make_the_pose_more_doubtful():
    doubts = [
        np.trace(relative_pose(pairs(np.random.default_rng(3), **options)[0], PRIOR).covariance)
        for options in (
            {"doubt": 0.002},
            {"doubt": 0.02},
            {"known": 0.2, "doubt": 0.02},
            {"known": 0.0},
        )
    ]
    assert doubts == sorted(doubts)


def test_without_depths_rotation_and_direction_are_seen_and_the_distance_is_not():
    found = relative_pose(pairs(np.random.default_rng(4), known=0.0)[0], PRIOR)
    turn = distance(found.world_from_camera, POSE)[1]
    shift = found.world_from_camera.translation
    cosine = shift @ POSE.translation / np.linalg.norm(shift) / np.linalg.norm(POSE.translation)
    assert turn < 0.5 and cosine > 0.97
    axis = POSE.translation / np.linalg.norm(POSE.translation)
    along = axis @ found.covariance[:3, :3] @ axis
    across = np.trace(found.covariance[:3, :3]) - along
    assert along > 5 * across / 2


def test_too_few_points_give_no_pose():
    assert relative_pose(pairs(np.random.default_rng(5), count=4)[0], PRIOR) is None
    nothing = Pairs(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0), NOISE)
    assert relative_pose(nothing, PRIOR) is None
