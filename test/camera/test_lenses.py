# SPDX-License-Identifier: Apache-2.0
"""Laws of lens models: rays to pixels and back, checks, CameraInfo and JSON."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.lenses import CAMERAS

from disam_ros.camera import (
    EQUIRECTANGULAR,
    FISHEYE,
    PINHOLE,
    Camera,
    camera_of_info,
    same_shape,
)
from disam_ros.datasets.bags import messages
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform

MOUNT = Transform.from_xyz_rpy([0.8, 0.1, 1.5, -1.6, 0.05, -1.5])


def pixels_of(camera, count=500):
    size = camera.width - 1, camera.height - 1
    return np.random.default_rng(0).uniform(0, size, (count, 2))


@pytest.mark.parametrize("name", CAMERAS)
def test_a_ray_of_any_length_meets_the_pixel_that_it_is_of(name):
    camera, pixels = CAMERAS[name], pixels_of(CAMERAS[name])
    camera.check()
    lengths = np.random.default_rng(1).uniform(0.1, 50.0, (len(pixels), 1))
    back, seen = camera.project(camera.rays(pixels) * lengths)
    assert seen.mean() > 0.99  # all but a fisheye's corners
    assert np.allclose(back[seen], pixels[seen], atol=1e-6)


def reference_pixel(camera, ray):
    """Textbook formulas in float64, one ray at a time."""
    x, y, z = ray
    if camera.model == EQUIRECTANGULAR:
        a, b = np.arctan2(x, z), np.arcsin(y / np.linalg.norm(ray))
    elif camera.model == FISHEYE:
        theta, r = np.arccos(z / np.linalg.norm(ray)), np.hypot(x, y)
        k = camera.distortion
        bent = theta + k[0] * theta**3 + k[1] * theta**5 + k[2] * theta**7 + k[3] * theta**9
        a, b = bent * x / r, bent * y / r
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*camera.distortion, *[0.0] * 8)[:8]
        a, b = x / z, y / z
        s = a * a + b * b
        bend = (1 + k1 * s + k2 * s**2 + k3 * s**3) / (1 + k4 * s + k5 * s**2 + k6 * s**3)
        a, b = (
            a * bend + 2 * p1 * a * b + p2 * (s + 2 * a * a),
            b * bend + p1 * (s + 2 * b * b) + 2 * p2 * a * b,
        )
    return camera.fx * a + camera.cx, camera.fy * b + camera.cy


@pytest.mark.parametrize("name", CAMERAS)
def test_pixels_are_those_of_the_models_formulas(name):
    camera = CAMERAS[name]
    rays = camera.rays(pixels_of(camera, 50))
    expected = np.array([reference_pixel(camera, ray) for ray in rays])
    assert np.allclose(camera.project(rays)[0], expected, atol=1e-9)


def test_a_fisheye_is_opencvs():
    camera = CAMERAS["fisheye"]
    rays = np.random.default_rng(3).uniform(-1, 1, (100, 3)) + [0, 0, 2]
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    still, numbers = np.zeros(3), np.array(camera.distortion)
    found, _ = cv2.fisheye.projectPoints(rays[:, None], still, still, matrix, numbers)
    assert np.allclose(camera.project(rays)[0], found[:, 0], atol=1e-9)


@given(
    model=st.sampled_from([PINHOLE, FISHEYE]),
    numbers=st.lists(st.floats(-0.4, 0.4), min_size=4, max_size=4),
    focal=st.floats(100.0, 900.0),
)
def test_no_two_rays_that_a_random_lens_sees_share_a_pixel(model, numbers, focal):
    distortion = tuple(numbers[:2]) + ((0.0, 0.0) if model == PINHOLE else tuple(numbers[2:]))
    camera = Camera(640, 480, focal, focal, 320.0, 240.0, distortion, model=model)
    angles = np.linspace(0.0, 3.1, 2000)
    rays = np.column_stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)])
    pixels, seen = camera.project(rays)
    assert seen[0]
    assert (np.diff(pixels[seen, 0]) > -1e-9).all()


def test_rays_behind_a_pinhole_are_not_seen():
    pixels, seen = CAMERAS["plumb_bob"].project(np.array([[0.0, 0.0, -1.0], [0.1, 0.0, -1.0]]))
    assert not seen.any() and np.isfinite(pixels).all()


@pytest.mark.parametrize("name", CAMERAS)
def test_bearings_are_rays_at_depth_one(name):
    camera, pixels = CAMERAS[name], pixels_of(CAMERAS[name])
    rays, bearings = camera.rays(pixels), camera.bearings(pixels)
    ahead = rays[:, 2] > 0.1
    assert np.allclose(
        bearings[ahead], (rays[:, :2] / rays[:, 2:])[ahead], atol=2e-3
    )  # OpenCV takes few steps
    assert np.isnan(bearings[rays[:, 2] <= 0]).all()


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_comes_back_from_json_and_from_a_camera_info(name):
    camera = replace(CAMERAS[name], base_from_camera=MOUNT)
    assert Camera.from_json(camera.to_json()) == camera
    back = camera_of_info(messages.camera_info(1, "front", camera), MOUNT)
    assert back == camera


def test_a_pinhole_is_written_as_before_there_were_other_lenses():
    assert "model" not in CAMERAS["plumb_bob"].to_json()


def test_an_image_of_another_size_has_the_same_rays():
    for camera in CAMERAS.values():
        half = camera.resized(camera.width // 2, camera.height // 2)
        corner = np.array([[-0.5, -0.5], [camera.width - 0.5, camera.height - 0.5]])
        small = np.array([[-0.5, -0.5], [half.width - 0.5, half.height - 0.5]])
        assert np.allclose(camera.rays(corner), half.rays(small), atol=1e-9)
        assert same_shape((half.width, half.height), (camera.width, camera.height))


def test_a_camera_of_an_unknown_model_in_a_file_names_the_models():
    values = CAMERAS["fisheye"].to_json() | {"model": "wide"}
    with pytest.raises(GeometryError, match="'model' expects one of pinhole, fisheye, equirect"):
        Camera.from_json(values)
