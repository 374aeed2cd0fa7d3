# SPDX-License-Identifier: Apache-2.0
"""Laws of images that say nothing of the place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data import texture

from disam_ros.geometry import Transform
from disam_ros.localization.checks import (
    BLACK,
    FROZEN,
    REPEATED,
    UNIFORM,
    WHITE,
    FrozenWatch,
    blank,
)
from disam_ros.localization.sequence.odometry import Reading

SECOND = 1_000_000_000


@pytest.mark.parametrize(("level", "name"), [(0, BLACK), (4, BLACK), (128, UNIFORM), (255, WHITE)])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    noise=st.floats(0.0, 1.5),
    height=st.integers(20, 600),
    stuck=st.integers(0, 3),
)
def test_one_colour_with_sensor_noise_and_stuck_pixels_is_blank(
    level, name, seed, noise, height, stuck
):
    rng = np.random.default_rng(seed)
    image = level + noise * rng.standard_normal((height, 64, 3))
    image[rng.integers(0, height, stuck), rng.integers(0, 64, stuck)] = 255 - level
    assert blank(image.round().clip(0, 255).astype(np.uint8)) == name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), dim=st.floats(0.1, 1.0))
def test_an_image_of_something_is_not_blank_however_dark(seed, dim):
    assert blank((dim * texture(seed, 120, 160)).astype(np.uint8)) == ""


def test_few_lamps_in_the_dark_and_few_shadows_in_the_light_are_something():
    for level, mark in ((0, 200), (255, 60)):
        image = np.full((192, 256, 3), level, np.uint8)
        image[80:100, 30:60] = mark  # 1.2 % of the pixels
        assert blank(image) == ""


def reading(metres, degrees=0.0, drive=0):
    pose = Transform.from_xyz_rpy([metres, 0, 0, 0, 0, np.radians(degrees)])
    return Reading(pose, metres, drive)


def verdicts(readings, images=None, stamps=None):
    watch = FrozenWatch()
    count = len(readings)
    images = images or [texture(0)] * count
    stamps = stamps or [(i + 1) * SECOND for i in range(count)]
    return [watch.check(i, s, r) for i, s, r in zip(images, stamps, readings, strict=True)]


@pytest.mark.parametrize("step", [{"metres": 0.3}, {"metres": 0.0, "degrees": 3.0}])
def test_the_same_pixels_are_frozen_once_odometry_says_that_the_vehicle_moved(step):
    readings = [reading(**{key: i * value for key, value in step.items()}) for i in range(5)]
    assert verdicts(readings) == ["", "", FROZEN, FROZEN, FROZEN]


def test_the_same_pixels_of_a_vehicle_that_stands_are_no_fault():
    assert verdicts([reading(7.0)] * 50) == [""] * 50


def test_images_that_differ_in_one_pixel_are_not_frozen():
    images = [texture(0) for _ in range(6)]
    for number, image in enumerate(images):
        image[3, number] ^= 1
    assert verdicts([reading(9.0 * i) for i in range(6)], images) == [""] * 6


def test_without_odometry_the_same_pixels_are_told_after_some_images_and_seconds():
    assert verdicts([None] * 7) == ["", "", "", "", REPEATED, REPEATED, REPEATED]
    quick = [SECOND + i * SECOND // 10 for i in range(7)]
    assert verdicts([None] * 7, stamps=quick) == [""] * 7


def test_another_drive_of_odometry_tells_no_motion():
    assert verdicts([reading(0.0), reading(50.0, drive=1)]) == ["", ""]


def test_one_message_that_comes_often_is_no_frozen_camera():
    assert verdicts([reading(9.0 * i) for i in range(9)], stamps=[SECOND] * 9) == [""] * 9


def test_a_camera_that_goes_on_is_no_longer_frozen_and_a_clock_set_back_begins_anew():
    images = [texture(0)] * 3 + [texture(1)] + [texture(1)]
    moving = [reading(2.0 * i) for i in range(5)]
    assert verdicts(moving, images) == ["", FROZEN, FROZEN, "", FROZEN]
    stamps = [5 * SECOND, 6 * SECOND, 1 * SECOND, 1 * SECOND, 1 * SECOND]
    assert verdicts(moving, stamps=stamps) == ["", FROZEN, "", "", ""]
