# SPDX-License-Identifier: Apache-2.0
"""Laws of the calibration of scores and errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.data import DESCRIPTOR, camera_pose, save_tiny_model, write_dataset

from disam_ros.config import DomainConfig, LocalizerConfig, MapBuilderConfig, SequenceConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError, ImageError, ModelError
from disam_ros.evaluation.confidence import normalized
from disam_ros.features.inlier_evidence import PoseErrors
from disam_ros.localization.calibration import (
    DEFAULT,
    SAMPLE,
    ScoreScale,
    background,
    fit_ratio,
    highest_ratio,
    load_calibration,
    save_calibration,
    z_scores,
)
from disam_ros.localization.fitting.calibrate import _Lead, _with_leads, calibrate
from disam_ros.localization.fitting.error_fit import fit_errors
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.compression import learn_projection


def test_the_regression_finds_the_ratio_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    matches, others = rng.normal(4.0, 1.0, 40_000), rng.normal(0.0, 1.0, 40_000)
    noise = rng.normal(0.0, 1.0, (2, 40_000))
    result = fit_ratio(np.stack([matches, noise[0]], 1), np.stack([others, noise[1]], 1))
    assert result[0] == pytest.approx(-8.0, abs=0.4)
    assert result[1] == pytest.approx(4.0, abs=0.2)  # log N(z; 4, 1) / N(z; 0, 1) = 4 z − 8
    assert result[2] == pytest.approx(0.0, abs=0.1)


def test_fine_and_coarse_scores_both_count_as_far_as_they_say_more_than_one():
    rng = np.random.default_rng(9)
    matches, others = rng.normal([3.0, 2.0], 1.0, (20_000, 2)), rng.normal(0.0, 1.0, (20_000, 2))
    assert fit_ratio(matches, others)[1:] == pytest.approx((3.0, 2.0), abs=0.2)
    against = others + [0.0, 1.0]
    assert fit_ratio(rng.normal([3.0, 0.0], 1.0, (20_000, 2)), against)[2] == 0.0


def test_as_many_images_as_a_ratio_claims_are_needed_to_learn_it():
    assert [highest_ratio(n) for n in (1, 100, 1000)] == pytest.approx([1.0, *np.log([100, 1000])])


def test_beyond_what_the_drives_taught_a_higher_score_counts_by_its_logarithm():
    z = np.linspace(-10.0, 1.0, 200)
    within, straight = DEFAULT.log_ratio(np.stack([z, z], 1)), DEFAULT.intercept + 3.8 * z
    taught = straight >= DEFAULT.low
    assert np.allclose(within[taught], straight[taught])
    assert (within[~taught] == DEFAULT.low).all()
    best = [DEFAULT.log_ratio(np.full((1, 2), top))[0] for top in np.linspace(5.0, 20.0, 50)]
    assert (np.diff(best) > 0).all() and max(best) < DEFAULT.high + 5.0


def test_a_high_score_leaves_the_others_as_far_behind_as_they_are():
    ratios = DEFAULT.log_ratio(np.array([[8.0, 8.0], [7.5, 8.0], [0.0, 0.0]]))
    assert ratios[0] - ratios[1] == pytest.approx(0.5 * DEFAULT.slope)
    assert ratios[2] == DEFAULT.low


def test_few_matches_among_many_others_weigh_as_much():
    rng = np.random.default_rng(1)
    few = fit_ratio(rng.normal(3, 1, (300, 2)), rng.normal(0, 1, (30_000, 2)))
    many = fit_ratio(rng.normal(3, 1, (30_000, 2)), rng.normal(0, 1, (30_000, 2)))
    assert few[1] == pytest.approx(many[1], rel=0.2)


@pytest.mark.parametrize("matches", [np.zeros((3, 2)), np.full((50, 2), -1.0)])
def test_drives_that_teach_nothing_are_refused(matches):
    with pytest.raises(ModelError):
        fit_ratio(matches, np.linspace(0, 1, 200).reshape(100, 2))


def test_separable_scores_still_give_finite_numbers():
    result = fit_ratio(
        np.linspace(10, 11, 100).reshape(50, 2), np.linspace(0, 1, 100).reshape(50, 2)
    )
    assert np.isfinite(result).all()


def test_z_of_coarse_scores_is_that_of_all_scores_of_the_map():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((300, 24)) * np.linspace(3, 0.1, 24) + 0.3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    projection = learn_projection(rows, 24)
    codes = projection.encode(rows)
    query = projection.project(rng.standard_normal(24))
    scores = projection.decode(codes) @ query
    scale = ScoreScale.of_codes(codes, projection.steps)
    expected = (scores - scores.mean()) / scores.std()
    assert np.allclose(scale.z(query, scores), expected, atol=0.02)


def test_z_of_coarse_scores_needs_no_principal_components_of_the_map():
    rng = np.random.default_rng(1)
    codes = np.rint(40 + 20 * rng.standard_normal((3000, 1)) + rng.standard_normal((3000, 8)))
    codes, query = codes.astype(np.int8), rng.uniform(0.5, 1.0, 8).astype(np.float32)
    scores = codes.astype(np.float64) @ query  # coordinates that vary together
    expected = (scores - scores.mean()) / scores.std()
    scale = ScoreScale.of_codes(codes, np.ones(8, np.float32))
    assert np.allclose(scale.z(query, scores), expected, atol=0.1)


def test_z_of_coarse_scores_of_equal_map_images_is_finite():
    scale = ScoreScale.of_codes(np.ones((5, 4), np.int8), np.ones(4, np.float32))
    assert np.isfinite(scale.z(np.ones(4), np.full(5, 4.0))).all()


def test_z_is_in_standard_deviations_of_the_scores_elsewhere():
    rng = np.random.default_rng(2)
    elsewhere = rng.normal(0.3, 0.05, 48).astype(np.float32)
    place = np.float32([0.9])
    z = z_scores(place, elsewhere)
    assert z == pytest.approx((0.9 - elsewhere.mean()) / elsewhere.std(), rel=0.25)
    own = elsewhere.copy()
    own[7] = 0.9  # the query's own place is in the sample
    assert z_scores(place, own) == pytest.approx(z, rel=0.1)
    dark = z_scores(place + 0.05, elsewhere + 0.05)  # an image that resembles everything
    assert dark == pytest.approx(z, rel=1e-3)


def test_z_of_equal_map_images_is_finite():
    assert np.isfinite(z_scores(np.ones(4, np.float32), np.ones(1, np.float32))).all()


def test_the_background_is_spread_over_the_map_and_not_larger_than_it():
    rows = np.arange(3, 1003)
    assert len(background(rows)) == SAMPLE and np.ptp(background(rows)) == 999
    assert background(rows[:5]).tolist() == [3, 4, 5, 6, 7]


def steps_along(yaw, spacing):
    """Second moments [N, 6, 6] of steps of that length towards yaw [N]."""
    steps = np.zeros((len(yaw), 6))
    steps[:, 0], steps[:, 1] = spacing * np.cos(yaw), spacing * np.sin(yaw)
    return np.einsum("ni,nj->nij", steps, steps)


def test_errors_become_their_standard_deviations():
    rng = np.random.default_rng(3)
    offsets = rng.standard_normal((50_000, 6)) * [0.5, 0.5, 0.1, 0.01, 0.01, 0.03]
    none = np.zeros((50_000, 6, 6))
    result = fit_errors(offsets, none, none)
    assert (result["horizontal"], result["vertical"]) == pytest.approx((0.5, 0.1), rel=0.02)
    assert (result["tilt"], result["yaw"]) == pytest.approx(np.degrees([0.01, 0.03]), rel=0.02)
    assert result["growth"] == [0.0] * 4


def test_variance_that_the_answers_state_is_not_counted_twice():
    offsets = np.random.default_rng(4).standard_normal((50_000, 6))
    stated, none = np.tile(0.36 * np.eye(6), (50_000, 1, 1)), np.zeros((50_000, 6, 6))
    assert fit_errors(offsets, stated, none)["horizontal"] == pytest.approx(0.8, rel=0.02)


@pytest.mark.parametrize("spacing", [1.0, 3.0, 6.0])
def test_errors_along_the_track_are_in_proportion_to_the_spacing(spacing):
    rng = np.random.default_rng(6)
    yaw = rng.uniform(0, 2 * np.pi, 20_000)
    offsets = rng.standard_normal((20_000, 6)) * 0.2
    ahead = 0.4 * spacing * rng.standard_normal(20_000)
    offsets[:, 0] += ahead * np.cos(yaw)
    offsets[:, 1] += ahead * np.sin(yaw)
    result = fit_errors(offsets, np.zeros((20_000, 6, 6)), steps_along(yaw, spacing))
    assert (result["horizontal"], result["along"]) == pytest.approx((0.2, 0.4), rel=0.03)


def test_errors_that_grow_with_the_spacing_are_separated_from_those_that_do_not():
    rng = np.random.default_rng(7)
    spacing = np.repeat([1.0, 2.0, 4.0], 4000)
    steps = np.square(spacing)[:, None, None] * steps_along(np.zeros(12_000), 1.0)
    sigma = np.hypot([[0.1, 0.1, 0.2, 0.01, 0.01, 0.02]], spacing[:, None] * [0.1, 0.1, 0, 0, 0, 0])
    result = fit_errors(rng.standard_normal((12_000, 6)) * sigma, np.zeros((12_000, 6, 6)), steps)
    assert (result["horizontal"], result["vertical"]) == pytest.approx((0.1, 0.2), rel=0.1)
    assert result["growth"] == pytest.approx([0.1, 0.0, 0.0, 0.0], abs=0.01)


def test_answers_between_overlapping_map_images_err_by_less_of_the_spacing():
    rng = np.random.default_rng(8)
    spacing = np.repeat([1.0, 2.0, 4.0, 8.0], 3000)
    steps = np.square(spacing)[:, None, None] * steps_along(np.zeros(12_000), 1.0)
    offsets = 0.05 * rng.standard_normal((12_000, 6))
    offsets[:, 0] += 0.35 * spacing * np.minimum(1, spacing / 4) * rng.standard_normal(12_000)
    result = fit_errors(offsets, np.zeros((12_000, 6, 6)), steps)
    assert result["along"] == pytest.approx(0.35, rel=0.05) and result["overlap"] == 4.0


def test_errors_that_progress_round_a_bend_does_not_explain_are_found():
    """Progress turns the vehicle much farther than it errs in yaw at each place of the track."""
    rng = np.random.default_rng(9)
    step = np.array([4.0, 0.0, 0.0, 0.0, 0.0, 0.4])
    own = rng.standard_normal((12_000, 6)) * [0.0, 0.3, 0.05, 0.01, 0.01, 0.2]
    offsets = rng.standard_normal((12_000, 1)) * step + own
    steps = np.tile(np.outer(step, step), (12_000, 1, 1))
    result = fit_errors(offsets, np.zeros((12_000, 6, 6)), steps, (0.001, 0.01))
    assert (result["horizontal"], result["vertical"]) == pytest.approx((0.22, 0.05), rel=0.05)
    assert (result["tilt"], result["yaw"]) == pytest.approx(np.degrees([0.01, 0.19]), rel=0.05)
    fitted = replace(DEFAULT, **result)
    total = np.stack([fitted.covariance(some) for some in steps[:400]])
    assert normalized(offsets[:400], total).mean() == pytest.approx(6.0, rel=0.1)


def test_the_fitted_errors_make_the_drives_consistent():
    """Whatever covariance the answers state: with the fitted errors the mean NEES is 1."""
    rng = np.random.default_rng(5)
    roots = rng.standard_normal((400, 6, 6)) * rng.exponential(0.4, (400, 1, 1))
    stated, offsets = roots @ roots.transpose(0, 2, 1), rng.standard_t(3, (400, 6))
    offsets[:, 0] *= 2.0
    steps = steps_along(np.zeros(400), 2.0)
    fitted = replace(DEFAULT, **fit_errors(offsets, stated, steps))
    total = stated + np.stack([fitted.covariance(some) for some in steps])
    for part in ([0], [1], [2], [3, 4], [5]):
        mean = normalized(offsets[:, part], total[:, part][:, :, part]).mean()
        assert mean == pytest.approx(len(part), rel=1e-6)


def test_no_error_is_fitted_below_the_smallest():
    result = fit_errors(np.zeros((9, 6)), np.ones((9, 6, 6)), np.zeros((9, 6, 6)), (0.2, 0.5))
    floors = [result[name] for name in ("horizontal", "vertical", "tilt", "yaw", "along")]
    assert floors == pytest.approx([0.2, 0.2, 0.5, 0.5, 0.1])


def test_a_covariance_is_widened_along_the_track_by_the_spacing_there():
    steps = steps_along(np.array([np.pi / 2]), 6.0)[0]
    sigma = np.sqrt(np.diag(replace(DEFAULT, horizontal=0.5, along=0.3).covariance(steps)))
    assert sigma[:2] == pytest.approx((0.5, np.hypot(0.5, 1.8)))


def test_a_saved_calibration_is_read_back(tmp_path):
    night = replace(DEFAULT, slope=1.5, along=0.5)
    calibration = replace(DEFAULT, domains={"night": night})
    save_calibration(calibration, tmp_path)
    assert load_calibration(tmp_path) == calibration


def test_a_domain_without_values_of_its_own_has_the_common_ones():
    night = replace(DEFAULT, slope=1.5)
    calibration = replace(DEFAULT, domains={"night": night})
    assert calibration.of("night") == night
    assert calibration.of("dusk") == calibration


def test_a_calibration_of_an_older_format_names_the_command_that_makes_it_anew(tmp_path):
    (tmp_path / "calibration.json").write_text('{"format_version": 1, "intercept": -4.0}')
    with pytest.raises(ModelError, match=r"version 1, expected 2; .*'disam calibrate'"):
        load_calibration(tmp_path)


@pytest.mark.parametrize("accuracy", [(0.0, 0.25), (0.05, -1.0), (math.nan, 0.25)])
def test_an_accuracy_that_no_pose_has_is_refused(opened, drive, accuracy):
    with pytest.raises(ConfigError, match="above 0, got"):
        calibrate(opened(), [drive], accuracy, show_progress=False)


def test_errors_of_keypoints_are_read_back_and_refused_where_they_are_none(tmp_path):
    errors = {"sift": PoseErrors(1.2, 0.01, 0.05, 100.0)}
    path = save_calibration(replace(DEFAULT, keypoints=errors), tmp_path)
    assert load_calibration(tmp_path).keypoints == errors
    path.write_text(path.read_text().replace("1.2", "-1.2"))
    with pytest.raises(ModelError, match="from 0 to 10000"):
        load_calibration(tmp_path)


def test_a_track_that_turns_between_map_images_widens_both_horizontal_axes_and_yaw():
    straight, turning = np.zeros((2, 6, 6))
    straight[0, 0] = turning[0, 0] = 8.0**2
    turning[5, 5] = 0.4**2
    sharp = replace(DEFAULT, along=0.0)
    more = sharp.covariance(turning) - sharp.covariance(straight)
    bend = [0.4, 0.4, 0.0, 0.0, 0.0, 0.05]  # 8 m · 0.4 rad / 8, and 0.4 rad / 8
    assert np.allclose(np.diag(more), np.square(bend))


def test_a_model_without_one_has_the_default(tmp_path):
    assert load_calibration(tmp_path) == DEFAULT == load_calibration(None)


# --- Learned from drives ---

COUNT = 40  # images of the drive that made the map, which is driven again


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "drive"
    records, source = write_dataset(directory, COUNT).records, open_dataset(directory)
    poses = [record.map_from_camera @ camera_pose(0).inverse() for record in records]
    odometry = (np.array([record.stamp_ns for record in records]), poses)
    return replace(source, odometry=odometry)


@pytest.fixture(scope="module")
def opened(drive, tmp_path_factory):
    """A localizer by the calibration it has before, and whether it follows sequences."""
    root = tmp_path_factory.mktemp("map")
    model = save_tiny_model(root / "model")
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=DESCRIPTOR)
    place_map = build_map(drive, model, root / "map", config, show_progress=False)

    def localizer(before=DEFAULT, enabled=False):
        config = LocalizerConfig(
            device="cpu",
            min_probability=0.5,
            domain=DomainConfig(override="day"),
            sequence=SequenceConfig(enabled=enabled),
        )
        result = Localizer(model, place_map, config)
        result.calibration = before
        return result

    return localizer


def test_a_calibration_is_that_of_its_drives_whatever_was_before(opened, drive):
    timid = replace(DEFAULT, slope=0.1, intercept=-1.0, high=1.0, horizontal=9.0)
    result = calibrate(opened(), [drive], show_progress=False)
    localizer = opened(timid, enabled=True)
    assert calibrate(localizer, [drive], show_progress=False) == result
    assert localizer.calibration == timid  # and stays as it was
    assert result.high == pytest.approx(np.log(COUNT)) and result.low == DEFAULT.low
    assert result.learned_on == ["textures"]


def test_a_drive_of_which_no_image_is_on_the_map_is_named(opened, drive):
    off = [
        replace(item, record=replace(item.record, map_from_camera=None)) for item in drive.images
    ]
    elsewhere = replace(drive, images=off, info=replace(drive.info, name="elsewhere"))
    with pytest.raises(ModelError, match="drive 'elsewhere': no image has a true pose"):
        calibrate(opened(), [drive, elsewhere], show_progress=False)


def test_an_image_that_cannot_be_read_teaches_nothing(opened, drive):
    def broken():
        raise ImageError("cut short")

    images = list(drive.images)
    damaged = [*images[:7], replace(images[7], load=broken), *images[8:]]
    fewer = [*images[:7], *images[8:]]
    result = [
        calibrate(opened(), [replace(drive, images=some)], show_progress=False)
        for some in (damaged, fewer)
    ]
    assert result[0] == result[1]


def test_leads_of_the_right_place_and_of_others_give_back_their_odds():
    rng, slope, intercept = np.random.default_rng(5), 40.0, -4.0
    leads = rng.uniform(-0.1, 0.3, 4000)
    right = rng.random(4000) < 1.0 / (1.0 + np.exp(-(slope * leads + intercept)))
    items = [
        _Lead(lead, bool(is_right), math.nan) for lead, is_right in zip(leads, right, strict=True)
    ]
    fitted = _with_leads(DEFAULT, items)
    assert fitted.lead_slope == pytest.approx(slope, rel=0.1)
    assert -fitted.lead_intercept / fitted.lead_slope == pytest.approx(0.1, abs=0.01)


def test_leads_that_are_all_apart_leave_room_for_an_error_and_few_change_nothing():
    apart = [_Lead(0.3, True, 0.0) for _ in range(100)]
    assert 0.0 < _with_leads(DEFAULT, apart).lead_slope < 100.0
    assert _with_leads(DEFAULT, apart[:5]) == DEFAULT
