# SPDX-License-Identifier: Apache-2.0
"""Cameras of a like view become one, their images scaled to its size."""

import logging

import numpy as np
import pytest

from disam_ros.camera import FISHEYE, Camera, same_view
from disam_ros.datasets.formats.reconstruction import merge_alike, name_cameras

LENS = Camera(640, 480, 500.0, 501.0, 320.0, 240.0, (-0.1, 0.01, 0.0, 0.0))


def lens(focal=1.0, **changes):
    values = {**vars(LENS), "fx": LENS.fx * focal, "fy": LENS.fy * focal}
    return Camera(**values | changes)


def test_cameras_that_an_adjustment_made_of_one_lens_are_its_median(caplog):
    cameras = [lens(focal) for focal in (0.99, 1.0, 1.03)] + [lens(1.001)] * 2
    with caplog.at_level(logging.INFO):
        merged = merge_alike(cameras, "model")
    assert len(set(merged)) == 1 and merged[0].fx == 500.0 * 1.001
    assert merged[0].distortion == LENS.distortion
    (line,) = caplog.messages
    assert "4 cameras of a like view are one" in line and "500.5 pixels" in line
    assert "4.00 %" in line


@pytest.mark.parametrize(
    "other",
    [
        lens(1.3),
        lens(width=480, height=640, cx=240.0, cy=320.0),
        lens(model=FISHEYE, distortion=(-0.1, 0.01, 0.0, 0.0)),
        lens(cx=380.0),
    ],
    ids=["zoom", "shape", "model", "shifted"],
)
def test_cameras_of_another_lens_zoom_or_shape_remain(other, caplog):
    cameras = [LENS, other, LENS]
    with caplog.at_level(logging.INFO):
        assert merge_alike(cameras, "model") == cameras and not caplog.messages
    assert name_cameras(cameras) == {LENS: "camera1", other: "camera2"}


def test_narrow_views_of_different_zoom_remain_though_their_rays_differ_little():
    cameras = [lens(8.0, distortion=()), lens(9.5, distortion=())]
    assert merge_alike(cameras, "model") == cameras


def test_each_of_two_zooms_has_its_own_median():
    rng = np.random.default_rng(1)
    cameras = [lens(zoom * spread) for zoom in (1.0, 2.0) for spread in rng.uniform(0.99, 1.01, 9)]
    merged = merge_alike(cameras, "model")
    assert len(set(merged[:9])) == len(set(merged[9:])) == 1 and merged[0] != merged[-1]


def test_an_image_scaled_to_the_common_size_shows_each_ray_where_the_common_camera_does():
    small = lens(width=632, cx=316.0)
    (common, other) = merge_alike([LENS, small], "model")
    assert common == other and same_view(common, small, 0.7)
