# SPDX-License-Identifier: Apache-2.0
"""Laws of satellite fixes: which count, how sure they are, and the place of a map by them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disam_ros.datasets.bags import messages
from disam_ros.fixes import MapPlace, covariance_of, deviation_of, place_of
from disam_ros.geodesy import Origin

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
        place.add(*Origin(50.0, 8.0).to_geodetic(position), position + [5e5, 5.5e6], 1.0)
    assert place.register() is None


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_majority_of_the_fixes_decides_whichever_comes_first(share):
    origin, track = Origin(50.0, 8.0, 0.4), np.repeat(TRACK, 20, axis=0)
    place, wrong = MapPlace(), int(share * len(track))
    for index, position in enumerate(track):
        jump = 4000.0 if index < wrong else 0.0
        place.add(*origin.to_geodetic(position + jump), position, 1.0)
    assert metres(origin, place.register().origin) < 0.1
    assert place.register().deviation < 0.1


def test_memory_is_bounded_and_long_drives_are_registered_as_a_whole(monkeypatch):
    monkeypatch.setattr("disam_ros.fixes.MOST_FIXES", 64)
    origin, place = Origin(-33.0, 151.0, -1.0), MapPlace()
    for index in range(1000):
        position = np.array([index, 0.01 * index**2])
        place.add(*origin.to_geodetic(position), position, 1.0)
    assert place.count == 1000
    result = place.register().origin
    assert metres(origin, result) < 2.0 and result.yaw == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize("longitude", [179.9999, -179.9999])
def test_a_drive_over_the_date_line_is_registered(longitude):
    origin = Origin(-17.0, longitude)
    assert metres(origin, registered(origin, TRACK).origin) < 0.1


def test_what_is_at_fault_says_so_and_gives_no_place():
    place, rng = MapPlace(), np.random.default_rng(0)
    assert place.outcome() == (None, "no fix came with a pose")
    for position in np.repeat(TRACK, 10, axis=0):
        at = position + 60 * rng.standard_normal(2)
        place.add(*Origin(50.0, 8.0).to_geodetic(at), position, 1.0)
    registration, text = place.outcome()
    assert registration is None and "m (median) from the poses" in text


def fix(latitude=50.0, longitude=8.0, status=0, kind=2, covariance=(4.0, 1.0)):
    message = messages.nav_sat_fix(0, "gps", latitude, longitude, 0.0, 1.0)
    message.status.status, message.position_covariance_type = status, kind
    message.position_covariance = np.diag([*covariance, 9.0]).ravel()
    return message


@pytest.mark.parametrize(
    ("latitude", "longitude", "status"),
    [(0.0, 0.0, 0), (50.0, 8.0, -1), (np.nan, 8.0, 0), (91.0, 8.0, 0), (50.0, 181.0, 0)],
)
def test_what_is_no_fix_has_no_place(latitude, longitude, status):
    assert place_of(fix(latitude, longitude, status)) is None


def test_fixes_on_the_equator_or_the_first_meridian_have_a_place():
    assert place_of(fix(0.0, 8.0)) == (0.0, 8.0)
    assert place_of(fix(51.5, 0.0)) == (51.5, 0.0)


@pytest.mark.parametrize(
    "unknown",
    [{"kind": 0}, {"covariance": (0.0, 0.0)}, {"covariance": (np.nan, 1.0)},
     {"covariance": (-1.0, 1.0)}],
)  # fmt: skip
def test_an_unknown_covariance_is_the_deviation_that_is_set(unknown):
    assert (covariance_of(fix(**unknown), 7.0) == np.diag([49.0, 49.0])).all()
    assert deviation_of(fix(**unknown), 7.0) == 7.0


def test_a_known_covariance_is_that_of_the_fix():
    assert (covariance_of(fix(), 7.0) == np.diag([4.0, 1.0])).all()
    assert deviation_of(fix(), 7.0) == pytest.approx(2.5**0.5)
