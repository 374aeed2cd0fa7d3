# SPDX-License-Identifier: Apache-2.0
"""Laws of the calibration of scores and errors."""

import json

import numpy as np
import pytest

from disam_ros.calibration import (
    DEFAULT,
    ScoreScale,
    fit_errors,
    fit_ratio,
    load_calibration,
    save_calibration,
)
from disam_ros.compression import learn
from disam_ros.errors import ModelError


def test_the_regression_finds_the_ratio_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    matches, others = rng.normal(4.0, 1.0, 40_000), rng.normal(0.0, 1.0, 40_000)
    intercept, slope, high = fit_ratio(matches, others)
    assert slope == pytest.approx(4.0, abs=0.2)  # log N(z; 4, 1) / N(z; 0, 1) = 4 z − 8
    assert intercept == pytest.approx(-8.0, abs=0.4)
    assert high == pytest.approx(8.0, abs=0.5)


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
    projection = learn(rows, 24)
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
    horizontal, vertical, tilt, yaw = fit_errors(offsets, np.zeros_like(offsets))
    assert (horizontal, vertical) == pytest.approx((0.5, 0.1), rel=0.02)
    assert (tilt, yaw) == pytest.approx(np.degrees([0.01, 0.03]), rel=0.02)


def test_variance_that_the_answers_tell_is_not_counted_twice():
    offsets = np.random.default_rng(4).standard_normal((50_000, 6))
    told = np.full_like(offsets, 0.36)
    assert fit_errors(offsets, told)[0] == pytest.approx(0.8, rel=0.02)


def test_no_error_is_so_small_that_nothing_is_left():
    assert fit_errors(np.zeros((9, 6)), np.ones((9, 6))) == (0.05, 0.05, 0.25, 0.25)


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
