# SPDX-License-Identifier: Apache-2.0
"""Laws of the evidence of inliers, of its fit and of the covariance of a pose."""

import numpy as np
import pytest

from disam_ros.features.detection import DESCRIPTOR_BYTES
from disam_ros.features.inlier_evidence import (
    MAP_ERRORS,
    MIN_REPETITION,
    MODELS,
    SMOOTHING,
    InlierRatio,
    PoseErrors,
    fit_errors,
    fit_ratio,
)

COUNTS = np.arange(0.0, 1500.0)
EVERY = pytest.mark.parametrize("name", MODELS)


def test_all_local_features_have_a_model():
    assert set(DESCRIPTOR_BYTES) == set(MODELS)


@EVERY
@pytest.mark.parametrize("reference", [0.0, 10.0, 200.0])
def test_more_inliers_are_more_evidence_within_bounds(name, reference):
    model = MODELS[name]
    ratios = model.log_ratio(COUNTS, np.full(len(COUNTS), reference), 20.0)
    assert (np.diff(ratios) >= 0).all() and np.isfinite(ratios).all()
    assert ratios[0] >= -3.0 and ratios[-1] <= 8.0


@EVERY
def test_more_inliers_elsewhere_are_less_evidence(name):
    ratios = MODELS[name].log_ratio(np.full(len(COUNTS), 60.0), COUNTS, None)
    assert (np.diff(ratios) <= 0).all() and ratios[0] > 0.5 > -0.5 > ratios[-1]


@EVERY
def test_inliers_are_less_evidence_on_a_repetitive_map(name):
    model, others = MODELS[name], np.zeros(1)
    ratios = [model.log_ratio(np.full(1, 60.0), others, r)[0] for r in (0.0, 10.0, 50.0, 100.0)]
    assert (np.diff(ratios) <= 0).all() and ratios[0] > ratios[-1]


@EVERY
def test_a_tie_says_nothing(name):
    model = MODELS[name]
    assert np.allclose(model.log_ratio(COUNTS[30:], COUNTS[30:], 30.0), 0.0, atol=1e-9)
    assert np.allclose(model.log_ratio(np.full(1, 30.0), np.zeros(1), 30.0), 0.0)


@EVERY
def test_among_candidates_each_inlier_counts_beside_those_of_chance(name):
    model = MODELS[name]
    weights = np.array([[model.log_weight(n, r) for n in range(500)] for r in (12.0, 24.0)])
    assert not weights[:, 0].any() and (np.diff(weights, axis=1) > 0).all()
    assert np.allclose(weights[0, :250], weights[1, ::2])  # only the ratio to chance counts
    assert model.log_weight(50, None) == model.log_weight(50, model.repetition)
    assert model.log_weight(50, 0.0) == model.log_weight(50, MIN_REPETITION)


def test_the_fit_finds_the_ratio_that_the_numbers_were_drawn_from():
    rng = np.random.default_rng(0)
    reference = rng.uniform(5.0, 50.0, 20000)
    true = InlierRatio(4.0, 0.3, 9.0)
    inliers = (reference + SMOOTHING) * np.exp(rng.normal(0, 0.6, 20000)) - SMOOTHING
    inliers = inliers.clip(0)
    right = rng.random(20000) < 1.0 / (1.0 + np.exp(-true(inliers, reference)))
    classes = [(inliers[which], reference[which]) for which in (right, ~right)]
    result = fit_ratio(classes[0], classes[1], 1000)
    probe = np.array([5.0, 10.0, 20.0, 40.0, 60.0, 90.0])
    drawn = np.log(right.mean() / (1 - right.mean()))  # the regression weights classes equally
    gap = result(probe, np.full(6, 20.0)) - true(probe, np.full(6, 20.0)) + drawn
    assert np.abs(gap).max() < 0.5


def test_numbers_that_do_not_distinguish_places_are_no_evidence():
    rng = np.random.default_rng(1)
    same = [(rng.uniform(0, 50, 3000), rng.uniform(0, 50, 3000)) for _ in range(2)]
    result = fit_ratio(same[0], same[1], 300)
    assert np.abs(result(np.array([0.0, 20.0, 100.0]), np.full(3, 20.0))).max() < 0.5


def test_the_ratio_is_at_most_what_so_many_images_can_show():
    inliers, reference = np.full(100, 500.0), np.full(100, 5.0)
    result = fit_ratio((inliers, reference), (reference, inliers), 50)
    assert result(np.full(1, 1e4), np.zeros(1))[0] == pytest.approx(np.log(50))


def test_the_fit_of_errors_finds_the_floor_that_they_were_drawn_from():
    rng = np.random.default_rng(2)
    inliers = rng.integers(12, 200, 1500)
    covariances = np.stack([np.eye(6) * (0.3 / n) ** 2 for n in inliers])
    true = PoseErrors(2.0, 0.05, 0.4, 60.0, depths=0.1)
    distances = rng.uniform(0.0, 3.0, 1500)
    whole = true.covariance(covariances, inliers, distances)
    errors = np.stack([rng.multivariate_normal(np.zeros(6), each) for each in whole])
    result = fit_errors(errors, covariances, inliers, distances, (0.01, 0.05))
    fitted = result.metres, result.degrees, result.depths
    assert fitted == pytest.approx((0.05, 0.4, 0.1), rel=0.15)
    assert result.few_m == pytest.approx(60.0, rel=0.3)


def test_no_pose_is_taken_for_more_exact_than_the_poses_that_it_was_compared_with():
    counts, covariances = np.full(50, 100), np.full((50, 6, 6), 1e-12) * np.eye(6)
    result = fit_errors(np.full((50, 6), 1e-6), covariances, counts, np.ones(50), (0.02, 0.1))
    assert result.metres >= 0.02 and result.degrees >= 0.1


def test_what_the_map_errs_by_is_added_to_the_covariance_of_the_solve():
    plain = np.diag([1e-4] * 3 + [1e-6] * 3)
    whole = MAP_ERRORS.covariance(plain, 12, 5.0)
    assert np.array_equal(whole, MAP_ERRORS.covariance(plain, 1000, 0.0))
    assert np.linalg.eigvalsh(whole - plain).min() > 0
    exact = MAP_ERRORS.covariance(np.zeros((6, 6)), 1000, 0.0)
    assert np.allclose(np.diag(exact)[[0, 5]], [0.01**2, np.radians(0.04) ** 2])
