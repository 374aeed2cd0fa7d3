# SPDX-License-Identifier: Apache-2.0
"""The place of a map on Earth, from fixes and poses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from disam_ros.geodesy import Origin
from disam_ros.nodes.map_builder.map_place import MapPlace

TRACK = np.array([[0, 0], [40, 0], [40, 30], [10, 60], [-20, 25]], np.float64)
EARTH = 6.36e6  # radius [m]


def registered(origin, positions, noise=0.0, variances=None):
    place, rng = MapPlace(), np.random.default_rng(0)
    for index, position in enumerate(positions):
        at = position + noise * rng.standard_normal(2)
        variance = 1.0 if variances is None else variances[index]
        place.add(*origin.to_geodetic(at), position, variance)
    return place.register()


def metres(a, b):
    return float(np.linalg.norm(a.to_enu(b.latitude, b.longitude)[:2]))


@settings(max_examples=50, deadline=None)
@given(
    latitude=st.floats(-80, 80),
    longitude=st.floats(-179, 179),
    yaw=st.floats(-3.1, 3.1),
    shift=st.floats(-2000, 2000),
)
def test_origin_and_axes_are_found_wherever_the_drive_lies_on_the_map(
    latitude, longitude, yaw, shift
):
    origin = Origin(latitude, longitude, yaw)
    result = registered(origin, TRACK + shift)
    north_turns = 2 * abs(shift) / EARTH * np.tan(np.radians(abs(latitude)))  # between the planes
    assert result.axes and result.origin.yaw == pytest.approx(yaw, abs=1e-4 + north_turns)
    assert metres(origin, result.origin) < 2.0  # two tangent planes, kilometres apart
    assert result.deviation < 0.05


def test_noise_of_fixes_averages_and_bad_ones_count_by_their_variance():
    origin, track = Origin(50.0, 8.0, 0.4), np.repeat(TRACK, 100, axis=0)
    result = registered(origin, track, noise=2.0)
    assert metres(origin, result.origin) < 0.5 and 1.5 < result.deviation < 4.0
    place = MapPlace()
    for position in track:
        place.add(*origin.to_geodetic(position), position, 1.0)
        place.add(*origin.to_geodetic(position + 50), position, 1e6)
    assert metres(origin, place.register().origin) < 0.01


def test_a_vehicle_that_hardly_moved_says_nothing_of_the_axes():
    origin = Origin(50.0, 8.0)
    result = registered(origin, TRACK / 20)
    assert not result.axes and result.origin.yaw == 0.0
    assert metres(origin, result.origin) < 0.01


def test_without_a_fix_or_with_an_origin_far_away_there_is_no_place():
    assert MapPlace().register() is None
    place = MapPlace()
    for position in TRACK:  # UTM: the origin of its zone is on the equator
        place.add(*Origin(50.0, 8.0).to_geodetic(position), position + [5e5, 5.5e6])
    assert place.register() is None
