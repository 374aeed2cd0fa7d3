# SPDX-License-Identifier: Apache-2.0
"""Laws of the relative pose up to scale of two views without depths."""

import numpy as np
import pytest

from disam_ros.camera import Camera
from disam_ros.features.epipolar_pose import epipolar_pose
from disam_ros.features.keypoints import Keypoints
from disam_ros.geometry import Transform, distance, offset

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
COUNT, NOISE = 150, 0.7  # matches; pixels


def seen(points, noise, rng):
    """Keypoints of points [M, 3] in the camera's frame."""
    pixels = points[:, :2] / points[:, 2:] * 500.0 + [319.5, 239.5]
    pixels = (pixels + noise * rng.standard_normal(pixels.shape)).astype(np.float32)
    empty = np.zeros((len(points), 1), np.uint8)
    zeros = np.zeros(len(points), np.float32)
    return Keypoints(pixels, empty, zeros, zeros, CAMERA)


def views(then_from_now, rng, wrong=0, count=COUNT):
    """Matched keypoints of a scene 4 to 40 m away; so many matches are wrong."""
    depths = 1.0 / rng.uniform(1 / 40, 1 / 4, count)
    then = np.column_stack([rng.uniform(-0.5, 0.5, (count, 2)) * depths[:, None], depths])
    now = (then - then_from_now.translation) @ then_from_now.rotation
    now[:wrong] = rng.permutation(now)[:wrong]
    return seen(then, NOISE, rng), seen(now, NOISE, rng)


def angle(a, b):
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("wrong", [0, COUNT // 3])
@pytest.mark.parametrize("metres", [0.3, 3.0])
def test_rotation_and_direction_are_those_of_the_motion_whatever_its_length(metres, wrong):
    rng = np.random.default_rng(0)
    for _ in range(8):
        direction = rng.standard_normal(3)
        direction *= metres / np.linalg.norm(direction)
        truth = Transform.from_xyz_rpy([*direction, *rng.uniform(-0.1, 0.1, 3)])
        result = epipolar_pose(*views(truth, rng, wrong))
        pose = result.world_from_camera.pose
        assert np.linalg.norm(pose.translation) == pytest.approx(1.0)
        assert distance(pose, truth)[1] < 1.0
        assert angle(pose.translation, truth.translation) < 25.0
        assert result.inliers[wrong:].mean() > 0.9 and result.inliers[:wrong].sum() <= 0.5 * wrong


def test_the_covariance_is_that_of_the_error_and_leaves_the_length_open():
    rng, squares = np.random.default_rng(1), []
    for _ in range(12):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        truth = Transform.from_xyz_rpy([*direction, *rng.uniform(-0.1, 0.1, 3)])
        result = epipolar_pose(*views(truth, rng)).world_from_camera
        error = offset(truth, result.pose)
        open_length = result.covariance.copy()
        along = result.pose.translation
        assert along @ open_length[:3, :3] @ along < 0.05
        open_length[:3, :3] += np.outer(along, along)
        squares.append(error @ np.linalg.solve(open_length + 1e-12 * np.eye(6), error))
    assert np.mean(squares) < 10.0


def test_a_turn_on_the_spot_has_a_rotation_and_no_direction():
    truth = Transform.from_xyz_rpy([0.0, 0.0, 0.0, 0.02, 0.1, -0.03])
    result = epipolar_pose(*views(truth, np.random.default_rng(2))).world_from_camera
    assert distance(result.pose, truth)[1] < 0.3
    across = np.sqrt(np.linalg.eigvalsh(result.covariance[:3, :3]))
    assert across[1] > 0.1  # radians


def test_points_lie_before_both_cameras():
    """The opposite direction fits all epipolar lines, with the points behind the cameras."""
    rng = np.random.default_rng(3)
    for direction in np.concatenate([np.eye(3), -np.eye(3)]):
        truth = Transform.from_xyz_rpy([*direction, 0.0, 0.0, 0.0])
        result = epipolar_pose(*views(truth, rng)).world_from_camera.pose
        assert angle(result.translation, direction) < 10.0


def test_too_few_matches_have_no_pose():
    truth = Transform.from_xyz_rpy([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert epipolar_pose(*views(truth, np.random.default_rng(4), count=7)) is None


def test_random_matches_have_few_inliers():
    truth = Transform.from_xyz_rpy([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    result = epipolar_pose(*views(truth, np.random.default_rng(5), wrong=40, count=40))
    assert result is None or result.inliers.sum() < 24
