# SPDX-License-Identifier: Apache-2.0
"""Laws of keypoints: depths, bearings and which rows belong together."""

from dataclasses import replace

import numpy as np
import pytest
from support.scene import CAMERA, pose, render

from disam_ros.camera import Camera
from disam_ros.errors import GeometryError
from disam_ros.features.local_features import open_features
from disam_ros.features.triangulation import update_inverse_depths
from disam_ros.mapping.keypoints import KeypointHeader, keypoints_of

IMAGE = render(pose(0))[0]


def detected():
    return open_features("orb").extract(IMAGE, 20)


def test_depths_in_a_row_of_a_map_come_back_to_the_last_bit():
    row = np.zeros((), KeypointHeader("orb", 60).row_type)
    row["count"] = 50
    row["depths"] = np.random.default_rng(0).uniform(0.3, 300.0, 60)
    row["depths"][:3] = np.nan, np.inf, 49.0
    assert np.array_equal(keypoints_of(row, None).depths, row["depths"][:50], equal_nan=True)


def test_detected_keypoints_have_no_depth_until_one_is_measured():
    keypoints = detected()
    assert np.isnan(keypoints.depths).all()
    update_inverse_depths(keypoints, np.array([4]), np.array([0.125]), np.array([1e4]))
    assert keypoints.depths[4] == 8.0 and np.isfinite(keypoints.depths).sum() == 1


def test_a_depth_that_a_second_measurement_contradicts_is_forgotten_else_it_gets_more_precise():
    keypoints, rows = detected(), np.array([3, 5])
    update_inverse_depths(keypoints, rows, np.array([0.1, 0.1]), np.array([1e4, 1e4]))
    update_inverse_depths(keypoints, rows, np.array([0.11, 0.3]), np.array([1e4, 1e4]))
    assert keypoints.inverse_depths[rows] == pytest.approx([0.105, 0.0])
    assert keypoints.precisions[rows] == pytest.approx([2e4, 0.0])


def test_selected_rows_keep_all_that_belongs_to_a_keypoint():
    keypoints = detected().seen_by(CAMERA, IMAGE)
    update_inverse_depths(keypoints, np.array([7]), np.array([0.2]), np.array([1e4]))
    some = keypoints[np.array([7, 2])]
    assert len(some) == 2 and some.depths[0] == 5.0 and np.isnan(some.depths[1])
    assert np.array_equal(some.pixels, keypoints.pixels[[7, 2]])
    assert np.array_equal(some.bearings, keypoints.bearings[[7, 2]])
    assert np.array_equal(some.descriptors, keypoints.descriptors[[7, 2]])
    assert np.array_equal(some.scores, keypoints.scores[[7, 2]])


def test_bearings_do_not_depend_on_the_size_that_the_camera_is_given_for():
    a, b = (detected().seen_by(camera, IMAGE) for camera in (CAMERA, CAMERA.resized(1280, 960)))
    assert np.allclose(a.bearings, b.bearings, atol=1e-12)
    assert a.pixel_angle == pytest.approx(1 / CAMERA.fx)


def test_a_pixel_of_an_image_that_is_shrunk_for_detection_is_a_larger_angle():
    large = replace(CAMERA, width=1280, height=960)
    assert replace(detected(), camera=large).pixel_angle == pytest.approx(2 / CAMERA.fx)


@pytest.mark.parametrize("camera", [None, Camera(320, 240, 0.0, 0.0, 0.0, 0.0)])
def test_without_intrinsics_there_are_no_bearings(camera):
    keypoints = detected().seen_by(camera, IMAGE)
    assert keypoints.camera is None
    with pytest.raises(GeometryError, match="no bearings"):
        _ = keypoints.bearings
