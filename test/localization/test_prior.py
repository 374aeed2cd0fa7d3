# SPDX-License-Identifier: Apache-2.0
"""Laws of priors of the place, fixes and odometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disam_ros.errors import PriorError
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.localization.prior import PositionPrior, gnss_prior, propagate
from disam_ros.localization.sequence.odometry import OdometryPrior, OdometryTrack
from season_town.conditions import LATITUDE, LONGITUDE
from season_town.sensors import geodetic

SECOND = 10**9

metres = st.floats(-100, 100)
positive = st.floats(0.1, 50)


def prior(x, y=0.0, sigma=2.0):
    return PositionPrior([x, y], sigma**2 * np.eye(2))


# The prior alone.


@settings(deadline=None)
@given(metres, metres, positive, positive, st.floats(-0.95, 0.95), st.floats(1e-6, 1.0))
def test_the_log_likelihood_is_that_of_a_plain_mixture(x, y, a, b, correlation, share):
    covariance = np.array([[a * a, correlation * a * b], [correlation * a * b, b * b]])
    places = np.random.default_rng(0).uniform(-150, 150, (20, 3))
    result = PositionPrior([x, y], covariance).log_likelihood(places, share)
    inverse = np.linalg.inv(covariance)
    for value, place in zip(result, places, strict=True):
        gap = place[:2] - [x, y]
        square = float(gap @ inverse @ gap)
        assert value == pytest.approx(np.log((1 - share) * np.exp(-square / 2) + share), abs=1e-6)


def test_an_outlier_ratio_of_one_says_nothing_and_an_endless_deviation_neither():
    places = np.array([[0.0, 0.0], [1e4, -1e4]])
    assert not prior(3.0).log_likelihood(places, 1.0).any()
    assert np.abs(prior(3.0, sigma=1e9).log_likelihood(places, 0.05)).max() < 1e-9


def test_the_gate_holds_what_lies_within_three_deviations_along_the_widest_axis():
    one = PositionPrior([1.0, 2.0, 9.0], np.diag([4.0, 25.0]))
    assert one.mean.tolist() == [1.0, 2.0] and one.gate_radius == pytest.approx(15.0)
    assert one.distances([[1.0, 17.0], [7.0, 2.0]]).tolist() == pytest.approx([3.0, 3.0])


def test_widening_adds_an_independent_error():
    assert np.allclose(prior(0.0, sigma=3.0).widened(4.0).covariance, 25.0 * np.eye(2))


@pytest.mark.parametrize(
    ("covariance", "words"),
    [
        (np.zeros((2, 2)), "positive variances"),
        (np.diag([-1.0, 1.0]), "positive variances"),
        ([[1.0, 2.0], [2.0, 1.0]], "correlations below 1"),
        ([[1.0, 0.5], [0.0, 1.0]], "symmetry"),
        (np.diag([np.nan, 1.0]), "finite"),
        (np.diag([np.inf, 1.0]), "finite"),
        (np.eye(3), "two rows"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, words):
    with pytest.raises(PriorError, match=words):
        PositionPrior([0.0, 0.0], covariance)


@pytest.mark.parametrize("mean", [[np.nan, 0.0], [0.0], [[0.0, 0.0]], [np.inf, 0.0, 0.0]])
def test_what_is_no_position_is_refused(mean):
    with pytest.raises(PriorError, match=r"x y \[z\]"):
        PositionPrior(mean, np.eye(2))


# Fixes.


@settings(deadline=None)
@given(st.floats(-500, 500), st.floats(-500, 500))
def test_a_fix_of_the_town_comes_back_to_where_it_was_taken(x, y):
    latitude, longitude, _ = geodetic(np.array([x, y, 0.0]))
    result = gnss_prior(latitude, longitude, np.eye(2), Origin(LATITUDE, LONGITUDE))
    assert result.mean == pytest.approx([x, y], abs=0.05)  # the town's Earth is flat


@settings(deadline=None)
@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(0, 360), st.floats(1, 20_000))
def test_a_fix_lies_in_the_direction_and_distance_that_a_sphere_tells(lat, lon, bearing, distance):
    radius, turn = 6_371_000.0, np.radians(bearing)
    north, east = distance * np.cos(turn) / radius, distance * np.sin(turn) / radius
    there = lat + np.degrees(north), lon + np.degrees(east / np.cos(np.radians(lat)))
    there = there[0], (there[1] + 180) % 360 - 180
    result = gnss_prior(*there, np.eye(2), Origin(lat, lon)).mean
    expected = distance * np.array([np.sin(turn), np.cos(turn)])
    assert np.linalg.norm(result - expected) < 0.03 * distance + 1e-3


def test_the_axes_of_a_map_that_is_turned_turn_position_and_covariance():
    latitude, longitude, _ = geodetic(np.array([100.0, 0.0, 0.0]))  # east
    origin = Origin(LATITUDE, LONGITUDE, yaw=np.pi / 2)  # x is north, y is west
    result = gnss_prior(latitude, longitude, np.diag([9.0, 1.0]), origin)
    assert result.mean == pytest.approx([0.0, -100.0], abs=0.01)
    assert np.allclose(result.covariance, np.diag([1.0, 9.0]))


def test_a_fix_of_another_region_or_of_no_place_is_refused():
    with pytest.raises(PriorError, match=r"km from the map's origin"):
        gnss_prior(-LATITUDE, LONGITUDE - 180, np.eye(2), Origin(LATITUDE, LONGITUDE))
    with pytest.raises(PriorError, match="the fix expects latitude"):
        gnss_prior(np.nan, 0.0, np.eye(2), Origin(0.0, 0.0))
    with pytest.raises(PriorError, match="the map's origin expects latitude"):
        Origin(95.0, 0.0)
    with pytest.raises(PriorError, match="positive variances"):
        gnss_prior(0.0, 0.0, np.zeros((2, 2)), Origin(0.0, 0.0))


# Odometry.


def base(x, y=0.0, yaw=0.0):
    return Transform.from_xyz_rpy([x, y, 0, 0, 0, yaw])


def test_odometry_moves_a_pose_in_its_own_axes_and_widens_it_by_the_way():
    moved = propagate(base(10, 5, np.pi / 2), np.eye(2), base(3), travelled=4.0, noise=0.5)
    assert moved.mean == pytest.approx([10, 8])
    assert np.allclose(moved.covariance, np.diag([5.0, 5.0]))


def test_the_last_answer_moves_with_odometry_interpolated_at_the_stamps():
    track = OdometryTrack(max_age_ns=SECOND)
    odometry = OdometryPrior(noise=0.1, track=track)
    assert odometry.at(0) is None
    for second in range(4):
        track.move(second * SECOND, base(100.0, 2.0 * second, np.pi / 2))
    odometry.answered(SECOND // 2, base(0, 0, 0), np.eye(2))
    result = odometry.at(5 * SECOND // 2)  # four metres ahead
    assert result.mean == pytest.approx([4.0, 0.0])
    assert np.allclose(result.covariance, (1 + 0.4**2) * np.eye(2))


def test_a_loop_brings_the_place_back_but_not_the_certainty():
    track = OdometryTrack(max_age_ns=SECOND)
    odometry = OdometryPrior(noise=0.1, track=track)
    track.move(0, base(0.0))
    odometry.answered(0, base(7.0), np.eye(2))
    for second, (x, y) in enumerate([(10, 0), (10, 10), (0, 10), (0, 0)], 1):
        track.move(second * SECOND, base(x, y))
    result = odometry.at(4 * SECOND)
    assert result.mean == pytest.approx([7.0, 0.0])
    assert result.covariance[0, 0] == pytest.approx(1 + 4.0**2)


def test_without_odometry_near_the_image_there_is_no_prior():
    track = OdometryTrack(max_age_ns=SECOND)
    odometry = OdometryPrior(noise=0.1, track=track)
    track.move(0, base(0.0))
    odometry.answered(0, base(7.0), np.eye(2))
    assert odometry.at(SECOND) is not None
    assert odometry.at(SECOND + 1) is None and odometry.at(-1) is None
    odometry.answered(9 * SECOND, base(0.0), np.eye(2))  # no odometry there: the old one stays
    assert odometry.at(SECOND).mean == pytest.approx([7.0, 0.0])


def test_odometry_that_begins_anew_forgets_the_answer():
    track = OdometryTrack(max_age_ns=SECOND)
    odometry = OdometryPrior(noise=0.1, track=track)
    track.move(5 * SECOND, base(3.0))
    odometry.answered(5 * SECOND, base(7.0), np.eye(2))
    track.move(SECOND, base(0.0))
    assert not odometry.anchor and odometry.at(SECOND) is None
