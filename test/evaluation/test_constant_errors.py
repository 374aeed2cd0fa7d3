# SPDX-License-Identifier: Apache-2.0
"""Errors that all answers have in common are named; those of places are not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.data import of_single_images, save_tiny_model, texture
from support.maps import BASE_FROM_CAMERA, CAMERA, START_S, base_pose, save_tiny_map

from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.sources import open_images
from disam_ros.evaluation import evaluate_drive
from disam_ros.evaluation.frames import constant_errors
from disam_ros.evaluation.judge import judge
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.image import encode_jpeg
from disam_ros.localization.localizer import Localizer

COUNT = 12


def frames(error, count=40, noise=0.0, wrong=0):
    """Answers that are off by a transform of the vehicle, metres of noise and wrong places."""
    rng, answers = np.random.default_rng(1), []
    for index in range(count):
        truth = Transform.from_xyz_rpy([3.0 * index, 0.0, 0.0, 0.0, 0.0, 0.3 * index])
        pose = truth @ error @ Transform.from_xyz_rpy([*rng.normal(0, noise, 2), 0, 0, 0, 0])
        if index < wrong:
            pose = Transform.from_xyz_rpy([*rng.uniform(-500, 500, 2), 0, 0, 0, rng.uniform(0, 6)])
        answers.append(SimpleNamespace(truth=truth, pose=pose))
    return answers


@pytest.mark.parametrize("wrong", [0, 8])
def test_a_common_rotation_is_named_with_its_axis(wrong):
    turned = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)
    (note,) = constant_errors(frames(turned, noise=0.3, wrong=wrong))
    assert "a constant 120°" in note or "a constant 119°" in note


@pytest.mark.parametrize("wrong", [0, 8])
def test_a_common_lever_arm_is_named_in_the_axes_of_the_vehicle(wrong):
    arm = Transform.from_xyz_rpy([2.0, 0.0, 1.5, 0.0, 0.0, 0.0])
    (note,) = constant_errors(frames(arm, noise=0.3, wrong=wrong))
    assert "a constant 2.5 m" in note and "1.5 above" in note


@pytest.mark.parametrize(
    "answers",
    [
        frames(Transform.identity(), noise=2.0),
        frames(Transform.identity(), count=40, wrong=40),
        frames(Transform.from_xyz_rpy([0.5, 0.0, 0.0, 0.0, 0.0, 0.05])),
        frames(Transform.from_xyz_rpy([9.0, 0.0, 0.0, 0.0, 0.0, 3.0]), count=9),
        [SimpleNamespace(truth=None, pose=None)] * 40,
    ],
    ids=["noise", "wrong places", "small", "few answers", "no truth"],
)
def test_what_scatters_or_is_small_is_no_common_error(answers):
    assert constant_errors(answers) == []


@pytest.mark.parametrize("sound", [True, False])
def test_a_map_without_extrinsics_is_noticed_by_an_evaluation(tmp_path, sound):
    mount = BASE_FROM_CAMERA if sound else Transform.identity()
    model = save_tiny_model(tmp_path / "model")
    camera = replace(CAMERA, base_from_camera=mount)
    save_tiny_map(tmp_path / "map", model, COUNT, camera=camera)
    with BagWriter(tmp_path / "drive", map_frame="town") as bag:
        bag.tf_static(START_S * 10**9, {"front": BASE_FROM_CAMERA})
        for index in range(COUNT):
            stamp = (START_S + index) * 10**9
            bag.compressed_image("front", stamp, encode_jpeg(texture(index)))
            bag.ground_truth(stamp, base_pose(index))
    localizer = Localizer.open(tmp_path / "map", tmp_path / "model", of_single_images())
    drive = evaluate_drive(localizer, open_images(tmp_path / "drive", "town"), "drive")
    notes = " ".join(judge(localizer.map, [drive], {}).notes)
    for words in ("turned by a constant 120°", "sits 1.8 m and 120° from where the map's"):
        assert (words in notes) == (not sound), notes
