# SPDX-License-Identifier: Apache-2.0
"""Laws of the calibration of scores and errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.data import camera_pose, write_dataset

from disam_ros.config import DomainConfig, LocalizerConfig, SequenceConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ImageError, ModelError
from disam_ros.evaluation.confidence import normalized
from disam_ros.localization.calibrate import calibrate
from disam_ros.localization.calibration import (
    DEFAULT,
    ScoreScale,
    fit_errors,
    fit_ratio,
    highest_ratio,
    load_calibration,
    save_calibration,
)
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.compression import learn_projection

ERRORS = ("horizontal", "vertical", "tilt", "yaw")


def test_the_regression_finds_the_ratio_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    matches, others = rng.normal(4.0, 1.0, 40_000), rng.normal(0.0, 1.0, 40_000)
    intercept, slope = fit_ratio(matches, others)
    assert slope == pytest.approx(4.0, abs=0.2)  # log N(z; 4, 1) / N(z; 0, 1) = 4 z − 8
    assert intercept == pytest.approx(-8.0, abs=0.4)


def test_as_many_images_as_a_ratio_claims_are_needed_to_learn_it():
    assert [highest_ratio(n) for n in (1, 100, 1000)] == pytest.approx([1.0, *np.log([100, 1000])])


def test_beyond_what_the_drives_taught_a_higher_score_is_still_the_likelier():
    z = np.linspace(-10.0, 20.0, 200)
    ratios, straight = DEFAULT.log_ratio(z), DEFAULT.intercept + DEFAULT.slope * z
    taught = (straight >= DEFAULT.low) & (straight <= DEFAULT.high)
    assert np.allclose(ratios[taught], straight[taught])
    assert (ratios[straight < DEFAULT.low] == DEFAULT.low).all()
    beyond = straight > DEFAULT.high
    assert (np.diff(ratios[beyond]) > 0).all() and ratios.max() < DEFAULT.high + 4.0


def test_few_matches_among_many_others_weigh_as_much():
    rng = np.random.default_rng(1)
    few = fit_ratio(rng.normal(3, 1, 300), rng.normal(0, 1, 30_000))
    many = fit_ratio(rng.normal(3, 1, 30_000), rng.normal(0, 1, 30_000))
    assert few[1] == pytest.approx(many[1], rel=0.2)


@pytest.mark.parametrize("matches", [np.zeros(3), np.full(50, -1.0)])
def test_drives_that_teach_nothing_are_refused(matches):
    with pytest.raises(ModelError):
        fit_ratio(matches, np.linspace(0, 1, 100))


def test_separable_scores_still_give_finite_numbers():
    found = fit_ratio(np.linspace(10, 11, 50), np.linspace(0, 1, 50))
    assert np.isfinite(found).all()


def test_z_is_that_of_all_scores_of_the_map():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((300, 24)) * np.linspace(3, 0.1, 24) + 0.3
    projection = learn_projection(rows, 24)
    codes = projection.encode(rows)
    query = projection.project(rng.standard_normal(24))
    scores = projection.decode(codes) @ query
    scale = ScoreScale.of_codes(codes, projection.steps, chunk=70)
    expected = (scores - scores.mean()) / scores.std()
    assert np.allclose(scale.z(query, scores), expected, atol=0.02)


def test_z_of_equal_map_images_is_finite():
    scale = ScoreScale.of_codes(np.ones((5, 4), np.int8), np.ones(4, np.float32))
    assert np.isfinite(scale.z(np.ones(4), np.full(5, 4.0))).all()


def test_errors_become_their_standard_deviations():
    rng = np.random.default_rng(3)
    offsets = rng.standard_normal((50_000, 6)) * [0.5, 0.5, 0.1, 0.01, 0.01, 0.03]
    horizontal, vertical, tilt, yaw = fit_errors(offsets, np.zeros((50_000, 6, 6)))
    assert (horizontal, vertical) == pytest.approx((0.5, 0.1), rel=0.02)
    assert (tilt, yaw) == pytest.approx(np.degrees([0.01, 0.03]), rel=0.02)


def test_variance_that_the_answers_tell_is_not_counted_twice():
    offsets = np.random.default_rng(4).standard_normal((50_000, 6))
    told = np.tile(0.36 * np.eye(6), (50_000, 1, 1))
    assert fit_errors(offsets, told)[0] == pytest.approx(0.8, rel=0.02)


def test_what_is_learned_makes_the_drives_consistent():
    """Whatever the answers tell, right or wrong: with the floor the normalized error is 1."""
    rng = np.random.default_rng(5)
    roots = rng.standard_normal((400, 6, 6)) * rng.exponential(0.4, (400, 1, 1))
    told, offsets = roots @ roots.transpose(0, 2, 1), rng.standard_t(3, (400, 6))
    floor = replace(DEFAULT, **dict(zip(ERRORS, fit_errors(offsets, told), strict=True))).floor()
    for part in ([0, 1], [2], [3, 4], [5]):
        covariances = (told + floor)[:, part][:, :, part]
        mean = normalized(offsets[:, part], covariances).mean()
        assert mean == pytest.approx(len(part), rel=1e-6)


def test_no_error_is_so_small_that_nothing_is_left():
    assert fit_errors(np.zeros((9, 6)), np.ones((9, 6, 6))) == (0.05, 0.05, 0.25, 0.25)


def test_a_saved_calibration_is_read_back(tmp_path):
    save_calibration(DEFAULT, tmp_path)
    assert load_calibration(tmp_path) == DEFAULT


def test_a_model_without_one_has_the_default(tmp_path):
    assert load_calibration(tmp_path) == DEFAULT == load_calibration(None)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"format_version": 9}', json.dumps({"format_version": 1, "slope": 2})],
)
def test_a_malformed_calibration_is_refused(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ModelError, match="disam calibrate"):
        load_calibration(tmp_path)


# --- Learned from drives ---

COUNT = 40  # images of the drive that made the map, which is driven again


@pytest.fixture
def drive(tmp_path):
    records = write_dataset(tmp_path / "drive", COUNT).records
    source = open_dataset(tmp_path / "drive")
    poses = [record.map_from_camera @ camera_pose(0).inverse() for record in records]
    odometry = (np.array([record.stamp_ns for record in records]), poses)
    return replace(source, odometry=odometry)


@pytest.fixture
def opened(drive, model, tmp_path, builder_config):
    """A localizer by the calibration it has before, and whether it follows sequences."""
    builder_config.keyframe_distance = 0.0
    place_map = build_map(drive, model, tmp_path / "map", builder_config, show_progress=False)

    def localizer(before=DEFAULT, enabled=False):
        sequence = SequenceConfig(enabled=enabled, min_probability=0.5)
        config = LocalizerConfig(
            device="cpu", domain=DomainConfig(override="day"), sequence=sequence
        )
        found = Localizer(model, place_map, config)
        found.calibration = before
        return found

    return localizer


def test_a_calibration_is_that_of_its_drives_whatever_was_before(opened, drive):
    timid = replace(DEFAULT, slope=0.1, intercept=-1.0, high=1.0, horizontal=9.0)
    found = calibrate(opened(), [drive], show_progress=False)
    localizer = opened(timid, enabled=True)
    assert calibrate(localizer, [drive], show_progress=False) == found
    assert localizer.calibration == timid  # and stays as it was
    assert found.high == pytest.approx(np.log(COUNT)) and found.low == DEFAULT.low
    assert found.learned_on == ["textures"]


def test_an_image_that_cannot_be_read_teaches_nothing(opened, drive):
    def broken():
        raise ImageError("cut short")

    images = list(drive.images)
    damaged = [*images[:7], replace(images[7], load=broken), *images[8:]]
    fewer = [*images[:7], *images[8:]]
    found = [
        calibrate(opened(), [replace(drive, images=some)], show_progress=False)
        for some in (damaged, fewer)
    ]
    assert found[0] == found[1]
