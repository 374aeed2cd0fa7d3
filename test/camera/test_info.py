# SPDX-License-Identifier: Apache-2.0
"""CameraInfo as sensor_msgs and image_geometry define it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disam_ros.camera import (
    FISHEYE,
    PINHOLE,
    Camera,
    camera_of_info,
    info_doubts,
    is_calibrated,
    is_rectified,
    size_fault,
    vehicle_camera,
)
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform

WIDTH, HEIGHT = 1280, 960
RAW = 700.0, 690.0, 651.0, 470.0  # fx fy cx cy
RECT = 640.0, 645.0, 630.0, 490.0
BENT = -0.3, 0.09, 0.001, -0.002, 0.01
RNG = np.random.default_rng(5)
POINTS = np.column_stack([RNG.uniform(-0.4, 0.4, (50, 2)), np.ones(50)])  # in front of the camera


def matrix(values):
    fx, fy, cx, cy = values
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def info(roi=(0, 0, 0, 0), binning=(0, 0), tx=0.0, do_rectify=False, **changes):
    x, y, width, height = roi
    p = np.hstack([matrix(RECT), [[tx], [0.0], [0.0]]])
    region = SimpleNamespace(
        x_offset=x, y_offset=y, width=width, height=height, do_rectify=do_rectify
    )
    values = {
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": list(BENT),
        "k": matrix(RAW).ravel(),
        "p": p.ravel(),
        "binning_x": binning[0],
        "binning_y": binning[1],
        "roi": region,
    }
    return SimpleNamespace(**values | changes)


def expected_pixels(roi, binning, rectified):
    """Where the points appear, in float64: OpenCV on the full resolution, then crop and bin."""
    intrinsics, bent = (RECT, np.zeros(5)) if rectified else (RAW, np.array(BENT))
    still = np.zeros(3)
    full, _ = cv2.projectPoints(POINTS, still, still, matrix(intrinsics), bent)
    return (full[:, 0] - roi[:2]) / np.maximum(binning, 1)


WINDOWS = {
    "whole": ((0, 0, 0, 0), (0, 0)),
    "binned": ((0, 0, 0, 0), (2, 2)),
    "binned in one direction": ((0, 0, 0, 0), (1, 4)),
    "cropped": ((100, 60, 800, 600), (0, 0)),
    "cropped and binned": ((100, 60, 800, 600), (2, 2)),
}


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_points_appear_where_the_full_image_cropped_and_binned_shows_them(name, rectified):
    roi, binning = WINDOWS[name]
    camera = camera_of_info(info(roi, binning), rectified=rectified)
    camera.check()
    width, height = (roi[2] or WIDTH), (roi[3] or HEIGHT)
    assert (camera.width, camera.height) == (
        width // max(binning[0], 1),
        height // max(binning[1], 1),
    )
    pixels, _ = camera.project(POINTS)
    assert np.allclose(pixels, expected_pixels(roi, binning, rectified), atol=1e-9)


@given(st.integers(0, 400), st.integers(0, 300), st.sampled_from([1, 2, 4]))
def test_every_region_and_binning_keeps_the_rays(x, y, binning):
    roi = x, y, 800, 600
    camera = camera_of_info(info(roi, (binning, binning)))
    pixels, _ = camera.project(POINTS)
    assert np.allclose(pixels, expected_pixels(roi, (binning, binning), False), atol=1e-9)


def test_a_baseline_is_no_intrinsic():
    assert camera_of_info(info(tx=-90.0), rectified=True) == camera_of_info(info(), rectified=True)


def test_do_rectify_is_about_the_region_and_no_word_on_the_images():
    for rectified in (False, True):
        asked, plain = (
            camera_of_info(info((64, 48, 640, 480), do_rectify=flag), rectified=rectified)
            for flag in (True, False)
        )
        assert asked == plain


@pytest.mark.parametrize(("name", "model"), [("radtan", PINHOLE), ("fisheye", FISHEYE)])
def test_other_names_of_a_lens_are_understood(name, model):
    camera = camera_of_info(info(distortion_model=name, d=[0.1] * 4))
    camera.check()
    assert camera.model == model


def test_rectified_images_need_no_known_distortion_model():
    wide = info(distortion_model="ds", d=[0.1] * 6)
    assert camera_of_info(wide, rectified=True).distortion == ()
    with pytest.raises(GeometryError, match="'ds' is none of"):
        camera_of_info(wide)


def test_rectified_images_without_p_are_of_k_unless_that_is_distorted():
    empty = np.zeros(12)
    assert camera_of_info(info(p=empty, d=[0.0] * 5), rectified=True).fx == RAW[0]
    with pytest.raises(GeometryError, match="P is zero"):
        camera_of_info(info(p=empty), rectified=True)
    assert is_calibrated(info(k=np.zeros(9))) and not is_calibrated(info(k=empty[:9], p=empty))


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/image_rect", True),
        ("/stereo/left/image_rect_color/compressed", True),
        ("/zed/image_rect_gray", True),
        ("/camera/image_raw", False),
        ("/rectifier/camera/image_color/compressed", False),
    ],
)
def test_the_name_of_a_topic_says_whether_images_are_rectified(topic, rectified):
    assert is_rectified(topic) == rectified


def test_images_scaled_to_any_size_have_the_camera_of_the_full_resolution():
    camera = camera_of_info(info(), size=(320, 240))
    assert camera.resized(320, 240) == camera_of_info(info()).resized(320, 240)
    assert not info_doubts(info(), size=(320, 240))


def test_a_region_or_binning_that_the_images_contradict_is_not_applied_and_doubted():
    whole = camera_of_info(info())
    region = info((100, 60, 800, 600))
    assert camera_of_info(region, size=(WIDTH, HEIGHT)) == whole
    assert "its roi is not applied" in info_doubts(region, size=(WIDTH, HEIGHT))[0]
    binned = info(binning=(2, 2))
    assert camera_of_info(binned, size=(WIDTH, HEIGHT)) == whole
    assert "its binning is not applied" in info_doubts(binned, size=(WIDTH, HEIGHT))[0]
    assert not info_doubts(binned, size=(640, 480))


SIZES = {
    "crop": ((1280, 600), "crop, whose place its roi has to say"),
    "turned": ((960, 1280), "turned by 90°"),
    "another": ((1920, 1080), "another camera's"),
}


@pytest.mark.parametrize("name", SIZES)
def test_images_of_another_shape_are_refused_with_the_likely_cause(name):
    size, cause = SIZES[name]
    with pytest.raises(GeometryError, match=cause):
        camera_of_info(info(), size=size)
    assert cause in size_fault(info(), size) and not size_fault(info(), (WIDTH, HEIGHT))
    assert not vehicle_camera(info(), None, Transform.identity(), size=size).calibrated


FAULTS = {
    "K of twice the size": ({"width": 640, "height": 480}, "about 1302x940"),
    "K of half the size": ({"width": 2560, "height": 1920}, "about 1302x940"),
    "K of a quarter": ({"width": 5120, "height": 3840}, "about 1302x940"),
    "lower crop": ({"height": 1400, "k": matrix((700, 700, 640, 100)).ravel()}, "far off the mid"),
    "region beyond": ({"roi": (600, 0, 800, 600)}, "lies beyond 1280x960"),
    "region without size": ({"roi": (600, 0, 0, 0)}, "has no size"),
    "unknown model": ({"distortion_model": "wide"}, "'wide' is none of plumb_bob, rational"),
    "three numbers": ({"d": [0.1] * 3}, "coefficients, got 3"),
    "fisheye without": ({"distortion_model": "equidistant", "d": []}, "4 .* fisheye .*got 0"),
    "fisheye of five": ({"distortion_model": "equidistant"}, "expected 4 .*got 5"),
    "no focal length": ({"k": np.zeros(9)}, "focal lengths above 0"),
    "no sphere": ({"distortion_model": "equirectangular"}, "twice as wide as high.*1280x960"),
    "no size": ({"width": 0, "distortion_model": "equirectangular"}, "the size of the image"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_intrinsics_of_no_lens_or_of_other_images_are_refused_with_the_likely_cause(name):
    changes, words = FAULTS[name]
    with pytest.raises(GeometryError, match=words):
        camera_of_info(info(**changes)).check()


DOUBTS = {
    "nothing": ({}, ""),
    "off the middle": ({"k": matrix((700, 700, 640, 250)).ravel()}, "far off the middle"),
    "telescope": ({"k": matrix((20000, 20000, 640, 480)).ravel()}, "field of view of 3.67°"),
    "wider than a pinhole": ({"k": matrix((90, 90, 640, 480)).ravel()}, "field of view of 164°"),
    "squeezed": ({"k": matrix((700, 1400, 640, 480)).ravel()}, "scaled in one direction"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_what_is_odd_is_said_with_the_likely_cause(name):
    changes, words = DOUBTS[name]
    doubts = "; ".join(info_doubts(info(**changes)))
    assert words in doubts and bool(words) == bool(doubts)


def test_a_vehicles_camera_is_calibrated_by_its_camera_info_else_as_the_maps():
    mount, mapped = Transform.from_xyz_rpy([0.5, 0, 1, 0, 0, 0.3]), Camera(64, 48, 60, 60, 32, 24)
    empty = info(k=np.zeros(9), p=np.zeros(12))  # it tells nothing
    for told, focal in ((None, 60.0), (empty, 60.0), (info(), RAW[0])):
        camera = vehicle_camera(told, mapped, mount)
        assert camera.fx == focal and camera.base_from_camera == mount
    assert not vehicle_camera(info(distortion_model="wide"), mapped, mount).calibrated
    assert not vehicle_camera(None, None, mount).calibrated
