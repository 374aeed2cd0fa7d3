# SPDX-License-Identifier: Apache-2.0
"""Laws of the sequence filter."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform, is_covariance
from disam_ros.localization.calibration import DEFAULT
from disam_ros.localization.sequence.bayes_filter import (
    Evidence,
    FilterModel,
    MotionModel,
    SequenceFilter,
)
from disam_ros.models.similarity import TEMPERATURE

FLOOR = -3.0
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def line(count, spacing=1.0, offset=0.0):
    poses = np.zeros((count, 7))
    poses[:, 0], poses[:, 1], poses[:, 6] = spacing * np.arange(count), offset, 1.0
    return poses


def forward(metres):
    return Transform(np.array([metres, 0.0, 0.0]), IDENTITY)


TYPICAL = 8.0  # log likelihood ratio of a right place by day


def evidence(count, rows, strength=TYPICAL):
    ratios = np.full(count, FLOOR)
    ratios[rows] = strength
    return np.arange(count), ratios


def see(estimator, rows, ratios, floor=FLOOR, **arguments):
    """Update with an image; its odds are the lead of the best place over the others."""
    place, log_odds = best_place(estimator._positions, rows, ratios)
    unseen = arguments.pop("unseen", None)
    image = Evidence(rows, ratios, floor, np.flatnonzero(place), log_odds, unseen=unseen)
    estimator.update(image, **arguments)


def best_place(positions, rows, ratios):
    """The images around the likeliest one of `rows`, and its log odds."""
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    radius = max(8.0, 2.5 * float(np.median(gaps))) if len(gaps) else 8.0
    place = np.linalg.norm(positions - positions[rows[ratios.argmax()]], axis=1) < radius
    others = ratios[~place[rows]].max(initial=FLOOR)
    return place, float(ratios.max() - others) / 2 - 2.0


def observe(estimator, rows, strength=TYPICAL):
    see(estimator, *evidence(len(estimator), rows, strength))


@pytest.fixture
def road():
    return SequenceFilter(line(300))


def test_two_alike_places_are_told_apart_by_what_comes_before(road):
    road.predict(None, 0.0)
    observe(road, [50])
    for step in range(1, 6):
        assert road.predict(forward(1.0), 0.2)
        observe(road, [50 + step, 200 + step])
    belief = road.belief()
    assert belief.row == 55 and road._belief[205] < 0.01 * road._belief[55]


def test_both_of_two_alike_places_stay_in_the_belief(road):
    for step in range(5):
        road.predict(forward(1.0), 0.2)
        observe(road, [50 + step, 200 + step])
    assert road.belief().probability < 0.6
    assert road._belief[204] == pytest.approx(road._belief[54], rel=0.1)


def test_it_recovers_within_a_few_images_when_the_vehicle_was_carried_away(road):
    for step in range(20):
        road.predict(forward(1.0), 0.2)
        observe(road, [20 + step])
    assert road.belief().row == 39
    for step in range(6):
        road.predict(forward(1.0), 0.2)
        observe(road, [220 + step])
    assert road.belief().row == 225


def test_uniform_scores_make_it_no_surer(road):
    road.predict(None, 0.0)
    observe(road, [100], 15.0)
    before = road.belief().probability
    for _ in range(10):
        road.predict(forward(1.0), 0.2)
        see(road, np.arange(300), np.zeros(300), 0.0)
    assert road.belief().probability < before


def test_images_unlike_every_place_lead_off_the_map(road):
    observe(road, [100])
    for _ in range(20):
        road.predict(forward(1.0), 0.2)
        observe(road, [])
    assert road.belief().on_map < 0.25


def test_odometry_that_drives_where_the_map_has_no_image_leads_off_the_map():
    estimator = SequenceFilter(line(30))
    observe(estimator, [29], 8.0)
    before = estimator.belief().on_map
    estimator.predict(forward(20.0), 1.0)
    assert estimator.belief().on_map < 0.5 * before


def passed(estimator, first, images, strength):
    """Belief after images of one row a second from `first` on; those beyond the last row say
    nothing."""
    for row in range(first, first + images):
        estimator.predict(None, 1.0)
        if row < len(estimator):
            observe(estimator, [row], strength)
        else:
            see(estimator, np.arange(len(estimator)), np.zeros(len(estimator)), 0.0)
    return estimator.belief()


def test_a_vehicle_that_keeps_its_speed_leaves_a_map_at_its_end():
    inside = passed(SequenceFilter(line(60)), 10, 15, 8.0)
    last = passed(SequenceFilter(line(60)), 45, 15, 8.0)
    beyond = passed(SequenceFilter(line(60)), 45, 17, 8.0)
    assert min(inside.probability, last.probability) > 0.9 and beyond.probability < 0.5


def test_a_map_does_not_end_where_another_drive_goes_on():
    two = np.concatenate([line(60), line(60, offset=300.0), line(60)])
    two[-60:, 0] += 60.0  # goes on where the first ends
    assert np.flatnonzero(SequenceFilter(two)._ends).tolist() == [119, 179]


def test_a_place_that_images_go_on_to_resemble_grows_no_surer(road):
    ratios, place = np.zeros(300), np.zeros(300, bool)
    ratios[100], place[92:109] = 3.0, True
    image = Evidence(np.arange(300), ratios, 0.0, place, 1.0)
    first = [road.update(image), road.belief().on_map][1]
    for _ in range(20):
        road.update(replace(image, fresh=0.0))
    again = road.belief().on_map
    assert again <= first + 1e-9
    for _ in range(20):
        road.update(image)
    assert road.belief().on_map > again


def test_a_standing_vehicle_grows_no_surer_by_seeing_the_same_again(road):
    road.predict(forward(0.0), 0.2)
    observe(road, [100, 200])
    for _ in range(50):
        assert not road.predict(forward(0.001), 0.2)


def test_short_motions_add_up(road):
    road.predict(forward(0.0), 0.2)
    observe(road, [100], 8.0)
    counted = [road.predict(forward(0.2), 0.05) for _ in range(15)]
    assert sum(counted) == 5
    assert road.belief().map_from_base.translation[0] == pytest.approx(103.0, abs=0.6)


def test_the_pose_lies_between_images_that_look_alike(road):
    for _ in range(3):
        road.predict(None, 0.0)
        observe(road, [100, 101], 8.0)
    assert road.belief().map_from_base.translation[0] == pytest.approx(100.5, abs=0.2)


def test_the_other_direction_of_a_road_is_another_place():
    there, back = line(100), line(100, offset=1.0)
    back[:, 3:] = Rotation.from_euler("z", np.pi).as_quat()
    estimator = SequenceFilter(np.vstack([there, back]))
    estimator.predict(None, 0.0)
    observe(estimator, [50, 150], 8.0)
    assert estimator.belief().probability < 0.6
    for step in range(1, 4):
        estimator.predict(forward(1.0), 0.2)
        observe(estimator, [50 + step], 8.0)
    assert estimator.belief().row == 53


@pytest.mark.parametrize(("seconds", "turns"), [(0.5, False), (4.0, True)])
def test_without_odometry_a_vehicle_takes_its_time_to_turn_round(seconds, turns):
    there, back = line(100), line(100)
    back[:, 3:] = Rotation.from_euler("z", np.pi).as_quat()
    estimator = SequenceFilter(np.vstack([there, back]), FilterModel(jump=0.0, leave=0.0))
    estimator.predict(None, 0.0)
    observe(estimator, [50], 20.0)
    estimator.predict(None, seconds, MotionModel(max_speed=40.0))
    assert (estimator._belief[100:].sum() > 0.1) == turns


def test_images_that_cannot_become_likely_are_not_plausible():
    estimator = SequenceFilter(line(100))
    assert len(estimator.plausible(30)) == 30  # all alike
    estimator.predict(None, 0.0)
    observe(estimator, [50, 51], 20.0)
    assert sorted(estimator.plausible(30)) == [50, 51]


def test_a_copy_of_the_map_has_its_share_of_the_prior():
    poses = np.vstack([line(10), line(10, offset=5.0)])
    estimator = SequenceFilter(poses, FilterModel(), (1.0, 0.25))
    assert estimator._belief[10:].sum() == pytest.approx(0.25 * estimator._belief[:10].sum())


def test_without_odometry_the_speed_bounds_where_it_can_be():
    estimator = SequenceFilter(line(300))
    estimator.predict(None, 0.0)
    observe(estimator, [100], 8.0)
    estimator.predict(None, 1.0, MotionModel(max_speed=5.0))
    observe(estimator, [104, 250], 5.0)
    assert estimator.belief().row == 104


def test_without_odometry_the_vehicle_is_expected_to_keep_its_speed(road):
    for number in range(6):
        road.predict(None, 0.5)
        observe(road, [100 + 4 * number])
    road.predict(None, 0.5)
    gone = road._belief[110:140] / road._belief[110:140].sum()
    assert gone.argmax() == 14 and gone[12:17].sum() > 0.6  # of a reach of 10 m to both sides


def test_places_passed_at_a_steady_speed_are_known_sooner_than_others():
    def known(rows):
        estimator = SequenceFilter(line(300))
        for number, row in enumerate(rows):
            estimator.predict(None, 0.5 * (number > 0))
            observe(estimator, [row])
        return estimator.belief().probability

    steady = 100 + 4 * np.arange(6)
    erratic = steady + np.array([0, 4, -3, 3, -4, 4])
    assert known(steady) > 0.9 > 0.75 > known(erratic)


def test_speeds_are_forgotten_when_the_vehicle_may_be_anywhere(road):
    for number in range(6):
        road.predict(None, 0.5)
        observe(road, [100 + 4 * number])
    assert road._speeds._seconds[120] > 2.0 > 0.1 > road._speeds._seconds[250]
    road.reset()
    assert not road._speeds._seconds.any()


@pytest.mark.parametrize("odometry", [True, False])
def test_places_that_resemble_a_street_off_the_map_do_not_become_known(odometry, road):
    rng = np.random.default_rng(2)
    for number in range(60):
        road.predict(forward(3.0) if odometry and number else None, 0.4)
        row = 50 + 3 * number + rng.integers(-3, 4)
        observe(road, [row, (row + 90) % 300], 3.0)
        assert road.belief().probability < 0.8


def test_scores_that_are_not_finite_say_nothing(road):
    rows = np.array([3, 4])
    road.update(Evidence(rows, np.array([np.nan, np.inf]), FLOOR, rows, 0.0))
    shares = [road.belief().probability, road.belief().on_map]
    assert np.isfinite(shares).all()


def test_a_belief_is_a_probability_after_any_steps():
    rng = np.random.default_rng(0)
    estimator = SequenceFilter(line(40))
    for _ in range(100):
        motion = Transform.from_xyz_rpy([*rng.normal(0, 3, 2), 0, 0, 0, rng.normal()])
        estimator.predict(motion if rng.random() < 0.7 else None, rng.random())
        rows = rng.choice(40, 5, replace=False)
        see(estimator, rows, rng.normal(0, 5, 5), FLOOR)
        belief = estimator.belief()
        assert 0.0 <= belief.probability <= belief.on_map + 1e-9 <= 1.0 + 2e-9
        assert np.linalg.eigvalsh(belief.covariance).min() > -1e-9


def test_rows_to_verify_cover_several_places_and_the_best_one(road):
    see(road, np.array([50, 51, 52, 120, 250]), np.array([9.0, 8.9, 8.8, 5.0, 4.0]), FLOOR)
    assert road.likeliest(5).tolist() == [50, 51, 120, 52, 250]
    assert road.likeliest(1).tolist() == [50]
    assert len(set(road.likeliest(40).tolist())) == 40


def test_an_image_speaks_neither_for_nor_against_places_that_it_cannot_show(road):
    """As of a camera to the side, on a map of the road ahead for half of the places."""
    observe(road, [50])
    known, off = road._belief[:100].copy(), road._off
    unseen = np.arange(300) < 100
    for ratio in (FLOOR, 2.0, TYPICAL):
        see(road, np.array([250]), np.array([ratio]), unseen=unseen)
        assert np.allclose(road._belief[:100] / road._off, known / off)


def test_an_image_of_one_of_several_cameras_counts_less_against_the_map(road):
    """Beside the mapped lane a camera to the side sees another scene."""
    estimators = [road, road.continued(line(300), (1.0,))]
    for estimator, cameras in zip(estimators, (1.0, 4.0), strict=True):
        observe(estimator, [50])
        place = np.arange(195, 206)
        for _ in range(4):
            ratios = np.full(len(place), 0.5)
            estimator.update(Evidence(place, ratios, FLOOR, place, -5.0), cameras=cameras)
    assert estimators[1]._off < estimators[0]._off


def test_keypoints_speak_for_a_place_against_others_and_against_off_the_map(road):
    for step in range(4):
        road.predict(forward(1.0), 0.2)
        observe(road, [50 + step])
    before, off = road._belief.copy(), road._off
    road.verify(np.array([53, 200]), np.array([-2.0, 0.0]))
    assert np.allclose(road._belief, before) and road._off == pytest.approx(off)
    road.verify(np.array([53, 200]), np.array([3.0, 0.0]))
    assert road._belief[53] > before[53] and road._belief[200] < before[200]
    assert road._off / off == pytest.approx(road._belief[200] / before[200])


def test_an_image_that_says_nothing_new_changes_nothing(road):
    observe(road, [50])
    before = road._belief.copy()
    see(road, *evidence(300, [50]), new=0.0)
    assert np.allclose(road._belief, before)


def seen(belief, off, ratios, model, first):
    """Belief and the share off the map after evidence, by the sums of bayes_filter.py."""
    place, log_odds = best_place(line(len(belief))[:, :3], np.arange(len(belief)), ratios)
    odds = np.exp(log_odds if first else max(log_odds, -model.against))
    factors = np.exp(ratios)
    best, others = factors[place].sum() / len(belief), factors[~place].sum() / len(belief)
    raised = max(1.0, 2.0 * odds * others / best)
    factors[place] *= raised
    alike = 0.0 if first else model.alike
    here = belief / belief.sum()
    missing = (1 - alike) * max(raised * best / odds - others, 0) + alike * here @ factors / odds
    exponent = 1.0 if first else model.evidence
    belief, off = belief * factors**exponent, off * missing**exponent
    return belief / (belief.sum() + off), off / (belief.sum() + off)


def test_motion_alone_leaves_all_places_equally_likely(road):
    for _ in range(5):
        assert road.predict(forward(3.0), 0.2) and road.predict(None, 0.5)
    assert np.ptp(road._belief) == 0.0


def test_it_does_what_the_sums_over_all_pairs_of_images_do():
    model, poses = FilterModel(step=0.0), line(12)
    estimator = SequenceFilter(poses, model)
    motion, ratios = 1.2, np.random.default_rng(1).normal(0, 2, 12)
    belief, off = np.full(12, (1 - model.off_map) / 12), model.off_map
    see(estimator, np.arange(12), ratios, FLOOR)
    belief, off = seen(belief, off, ratios, model, True)
    for _ in range(4):
        estimator.predict(forward(motion), 0.1)
        see(estimator, np.arange(12), ratios, FLOOR)
        deviation = np.hypot(0.5, MotionModel().odometry_noise * motion)
        gaps = np.abs(np.arange(12)[:, None] + motion - np.arange(12)[None])
        kernel = np.where(gaps <= 4 * deviation, np.exp(-0.5 * (gaps / deviation) ** 2), 0.0)
        sums = kernel.sum(1)
        arrives = sums > 0
        moved = (belief[arrives] / sums[arrives]) @ kernel[arrives]
        left = belief[~arrives].sum()
        anywhere = model.jump * moved.sum() + model.back * off
        new_off = off * (1 - model.back) + left + model.leave * moved.sum()
        belief = moved * (1 - model.jump - model.leave) + anywhere / 12
        belief, off = belief / (belief.sum() + new_off), new_off / (belief.sum() + new_off)
        belief, off = seen(belief, off, ratios, model, False)
    assert np.allclose(estimator._belief, belief, atol=1e-12)


# --- The spacing of the map ---


def ratios_at(estimator_x, x):
    """Log likelihood ratios [N] of an image taken at x: the farther, the less alike."""
    return np.maximum(TYPICAL - np.abs(estimator_x - x), FLOOR)


def drive_along(poses, odometry, start=60.3, steps=30, step=2.0):
    """Probabilities and errors [m] of a drive, the same on any map."""
    estimator, result = SequenceFilter(poses), []
    for number in range(steps):
        x = start + step * number
        estimator.predict(forward(step) if odometry and number else None, 0.2)
        see(estimator, np.arange(len(poses)), ratios_at(poses[:, 0], x), FLOOR)
        belief = estimator.belief()
        result.append((belief.probability, belief.map_from_base.translation[0] - x))
    return np.array(result).T


@pytest.mark.parametrize("odometry", [True, False])
def test_a_drive_from_a_dense_part_of_the_map_to_a_sparse_one_stays_known(odometry):
    poses = line(150)
    poses[:, 0] = np.r_[np.arange(90.0), 96.0 + 6.0 * np.arange(60.0)]
    for some in (poses, poses[::-1]):
        probability, error = drive_along(some, odometry)
        assert (probability[5:] > 0.8).all() and np.abs(error[5:]).max() < 4.0


def test_before_any_image_every_metre_of_road_is_equally_likely():
    poses = line(40)
    poses[:, 0] = np.r_[np.arange(20.0), 25.0 + 6.0 * np.arange(20.0)]
    belief = SequenceFilter(poses)._belief
    assert belief[30] == pytest.approx(6.0 * belief[10])
    assert belief.sum() == pytest.approx(1.0 - FilterModel().off_map)


def test_images_of_a_vehicle_at_rest_are_no_likelier_place():
    poses = line(60)
    poses[20:40, 0] = 20.0
    poses[40:, 0] -= 20.0
    estimator = SequenceFilter(poses)
    assert estimator._belief[20:40].sum() < 4 * estimator._belief[5]


# --- Between map images ---


def seen_at(poses, x, scale=2.0):
    """Log-weights by row of an image taken at x: they fall with the distance in metres."""
    return lambda rows: 8.0 * np.exp(-np.abs(poses[rows, 0] - x) / scale)


def tracked_between(poses, x, step=1.5, steps=12):
    """The belief after a drive that ends at x."""
    estimator = SequenceFilter(poses)
    for number in range(steps):
        here = x - step * (steps - 1 - number)
        estimator.predict(forward(step) if number else None, 0.2)
        see(estimator, np.arange(len(poses)), ratios_at(poses[:, 0], here), FLOOR)
    return estimator.belief(seen_at(poses, x), 0.4)


@pytest.mark.parametrize("spacing", [1.0, 3.0, 6.0])
def test_a_pose_lies_where_both_neighbours_look_alike_and_moves_with_the_vehicle(spacing):
    poses, shares = line(60, spacing), (0.1, 0.25, 0.5, 0.75, 0.9)
    result = [tracked_between(poses, (30 + share) * spacing) for share in shares]
    x = np.array([belief.map_from_base.translation[0] for belief in result])
    assert x[2] == pytest.approx(30.5 * spacing, abs=0.02 * spacing)
    assert (np.diff(x) > 0).all()
    assert np.abs(x / spacing - 30 - shares).max() < 0.35
    assert [belief.row for belief in result][::4] == [30, 31]
    assert all(belief.probability > 0.8 for belief in result)


def test_the_error_along_the_track_is_largest_halfway_and_never_none():
    near, between = (tracked_between(line(60, 6.0), x) for x in (180.1, 183.0))
    assert 0.0 < near.steps[0, 0] < between.steps[0, 0] == pytest.approx(36.0, rel=0.01)
    assert near.spacing == between.spacing == pytest.approx(6.0)


def test_a_pose_halfway_round_a_bend_is_turned_by_half_of_it():
    poses = line(20, 6.0)
    poses[:, 3:] = Rotation.from_rotvec(np.outer(np.arange(20) * 0.2, [0, 0, 1])).as_quat()
    estimator = SequenceFilter(poses)
    see(estimator, np.array([5, 6]), np.array([6.0, 6.0]), FLOOR)
    turn = Rotation.from_quat(estimator.belief().map_from_base.quaternion).as_rotvec()
    assert turn == pytest.approx([0.0, 0.0, 1.1], abs=1e-6)


def test_a_single_image_is_its_own_place():
    estimator = SequenceFilter(line(1, offset=3.0))
    see(estimator, np.array([0]), np.array([6.0]), FLOOR)
    belief = estimator.belief(lambda rows: np.zeros(len(rows)), 0.4)
    assert belief.map_from_base.translation.tolist() == [0.0, 3.0, 0.0]
    assert belief.row == 0 and belief.spacing == 0.0 and not belief.steps.any()


def test_no_pose_lies_between_two_drives():
    poses = np.vstack([line(10, 2.0), line(10, 2.0, offset=100.0)])
    estimator = SequenceFilter(poses)
    see(estimator, np.array([9, 10]), np.array([6.0, 6.0]), FLOOR)
    y = estimator.belief(lambda rows: np.zeros(len(rows)), 0.4).map_from_base.translation[1]
    assert y in (0.0, 100.0)


def test_at_the_end_of_a_drive_the_vehicle_may_have_driven_on():
    poses = line(10, 4.0)
    inside, end = (tracked_between(poses, x) for x in (20.2, 36.5))
    assert end.row == 9 and end.map_from_base.translation[0] == pytest.approx(36.0, abs=1.0)
    assert end.covariance[0, 0] >= 4.0**2 / 12 > inside.covariance[0, 0]


def test_a_place_is_known_only_as_surely_as_which_of_its_long_stretches_it_is():
    poses = line(40, 12.0)
    estimator = SequenceFilter(poses)
    for _ in range(5):
        see(estimator, np.arange(40), ratios_at(poses[:, 0], 240.0), FLOOR)
    unsure = estimator.belief(lambda rows: np.where(np.isin(rows, [19, 21]), 2.0, 4.0), 0.4)
    sure = estimator.belief(seen_at(poses, 246.0, 6.0), 0.4)
    assert unsure.probability < 0.6 < 0.8 < sure.probability


def test_images_of_a_vehicle_at_rest_or_turning_on_the_spot_give_poses_there():
    poses = line(30)
    poses[10:20, 0], poses[20:, 0] = 10.0, 11.0 + np.arange(10)
    angle = np.r_[np.zeros(10), np.linspace(0.0, np.pi / 2, 10), np.full(10, np.pi / 2)]
    turning = poses.copy()
    turning[:, 3:] = Rotation.from_rotvec(np.outer(angle, [0, 0, 1])).as_quat()
    for some, row in ((poses, 15), (turning, 15)):
        estimator = SequenceFilter(some)
        see(estimator, np.array([row, row + 1]), np.array([6.0, 6.0]), FLOOR)
        belief = estimator.belief(lambda rows: np.zeros(len(rows)), 0.4)
        assert np.allclose(belief.map_from_base.translation[:2], [10.0, 0.0], atol=0.6)
        assert np.isfinite(belief.covariance).all() and np.isfinite(belief.steps).all()
        assert is_covariance(DEFAULT.covariance(belief.steps) + belief.covariance)


@pytest.mark.parametrize("odometry", [True, False])
@pytest.mark.parametrize("spacing", [1.0, 3.0, 6.0])
def test_a_drive_is_known_and_its_errors_are_as_its_covariance_says(spacing, odometry):
    """Similarities as on KITTI: they fall like exp(−d / 1.5 m), with noise."""
    calibration = replace(DEFAULT, horizontal=0.03, along=0.075, overlap=4.0)
    poses, rng = line(int(600 / spacing), spacing), np.random.default_rng(5)
    estimator, result = SequenceFilter(poses), []
    for number in range(150):
        x = 100.0 + 2.13 * number
        similarity = 0.65 * np.exp(-np.abs(poses[:, 0] - x) / 1.5)
        similarity += rng.normal(0.0, 0.03, len(poses))
        estimator.predict(forward(2.13) if odometry and number else None, 0.2)
        ratios = np.clip(30.0 * similarity - 1.0, FLOOR, 8.0)
        see(estimator, np.arange(len(poses)), ratios, FLOOR)
        belief = estimator.belief(lambda rows, fine=similarity: fine[rows] / TEMPERATURE, 0.4)
        covariance = calibration.covariance(belief.steps) + belief.covariance
        assert is_covariance(covariance)
        error = belief.map_from_base.translation[0] - x
        result.append((belief.probability, abs(error), error**2 / covariance[0, 0]))
    probability, errors, squares = np.array(result[5:]).T
    assert (probability > 0.8).mean() > 0.9
    assert errors[probability > 0.8].max() < 5.0
    assert np.median(errors) < 0.1 * max(spacing, 2.0)
    assert 0.2 < squares.mean() < 1.5  # means over close images are better than they claim
