# SPDX-License-Identifier: Apache-2.0
"""Poses between map images lie on a smooth curve."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform, distance, interpolate, offset
from disam_ros.localization.pose import Curve

SHARES = st.floats(0.0, 1.0)


def track(x, y, yaw, z=None):
    """Poses [N, 7] of a vehicle on a plane."""
    turns = Rotation.from_euler("z", np.asarray(yaw, float)[:, None]).as_quat()
    heights = np.zeros(len(x)) if z is None else z
    return np.column_stack([x, y, heights, turns])


def s_bend(distance):
    """A vehicle whose curvature changes its sign at 0."""
    s = np.linspace(-40.0, 40.0, 8001)
    yaw = -0.01 * np.square(s)  # turns left before 0, right after
    x, y = np.cumsum([np.cos(yaw), np.sin(yaw)], axis=1) * (s[1] - s[0])
    at = [np.interp(distance, s, values) for values in (x, y, yaw)]
    return track(*at)


def arc(angles, radius=20.0):
    angles = np.asarray(angles)
    return track(radius * np.sin(angles), radius * (1 - np.cos(angles)), angles)


def pose(row):
    return Transform(row[:3], row[3:])


def at(curve, start, end, share):
    """One point of a curve."""
    result = curve.points([start], [end], [share])
    return SimpleNamespace(pose=result.pose(0), slope=result.slopes[0], bend=result.bends[0])


def error(found, true):
    """Metres aside and degrees."""
    step = offset(pose(true), found)
    return np.linalg.norm(step[:3]), np.degrees(np.linalg.norm(step[3:]))


@given(share=SHARES)
def test_on_a_straight_road_it_is_the_chord(share):
    places = [0.0, 2.0, 5.0, 9.0]
    curve = Curve(track(places, [0.0] * 4, [0.0] * 4))
    for start, length in ((0, 2.0), (1, 3.0), (2, 4.0)):
        point = at(curve, start, start + 1, share)
        assert np.allclose(point.pose.translation, [places[start] + share * length, 0, 0])
        assert np.allclose(point.slope, [length, 0, 0, 0, 0, 0])
        assert np.allclose(point.bend, 0.0, atol=1e-12)


@given(st.integers(0, 10**6))
def test_it_passes_through_the_images(seed):
    rng = np.random.default_rng(seed)
    poses = track(np.cumsum(rng.uniform(1, 8, 6)), rng.normal(0, 2, 6), rng.normal(0, 0.3, 6))
    curve = Curve(poses)
    for row in range(5):
        for share, end in ((0.0, row), (1.0, row + 1)):
            point = at(curve, row, row + 1, share)
            assert np.allclose(error(point.pose, poses[end]), 0.0, atol=1e-6)
            assert np.allclose(point.bend, 0.0, atol=1e-9)


def test_in_a_bend_it_is_nearer_to_the_road_than_the_chord():
    poses = arc(np.radians([0.0, 20.0, 40.0, 60.0]))
    curve = Curve(poses)
    for share in (0.25, 0.5, 0.75):
        point = at(curve, 1, 2, share)
        true = arc(np.radians([20.0 + 20.0 * share]))[0]
        chord = interpolate(pose(poses[1]), pose(poses[2]), share)
        assert error(point.pose, true)[0] < error(chord, true)[0] / 5
        assert np.allclose(point.bend, offset(point.pose, chord))


@given(share=st.floats(0.05, 0.95))
def test_its_slope_is_the_way_that_the_vehicle_drives(share):
    curve = Curve(arc(np.radians([0.0, 20.0, 45.0, 60.0])))
    before, here, after = (at(curve, 1, 2, share + step) for step in (-1e-4, 0.0, 1e-4))
    assert np.allclose(here.slope, offset(after.pose, before.pose) / 2e-4, atol=1e-5)


def test_where_the_road_bends_the_other_way_it_turns_as_the_vehicle_does():
    """Both images look the same way, the vehicle between them does not."""
    poses = s_bend(np.array([-6.0, -2.0, 2.0, 6.0]))
    curve, true = Curve(poses), s_bend(np.array([0.0]))[0]
    point = at(curve, 1, 2, 0.5)
    chord = interpolate(pose(poses[1]), pose(poses[2]), 0.5)
    assert error(point.pose, true)[1] < error(chord, true)[1] / 2
    assert abs(np.degrees(point.bend[5])) > 1.0


@given(share=SHARES, seed=st.integers(0, 10**6))
def test_it_is_the_hermite_spline_of_parabolas_tangents(share, seed):
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.uniform(1.0, 2.0, (4, 3)), axis=0)
    poses = track(points[:, 0], points[:, 1], np.zeros(4), points[:, 2])
    knots = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    slopes = np.gradient(points, knots, axis=0, edge_order=2)
    where = knots[1] + share * (knots[2] - knots[1])
    expected = CubicHermiteSpline(knots, points, slopes)(where)
    result = at(Curve(poses), 1, 2, share).pose
    assert np.allclose(result.translation, expected, atol=1e-9)


@given(share=SHARES, seed=st.integers(0, 10**6))
def test_it_moves_with_the_frame_of_the_map(share, seed):
    rng = np.random.default_rng(seed)
    poses = arc(np.radians([0.0, 15.0, 33.0, 45.0]))
    moved = Transform(rng.normal(0, 100, 3), Rotation.random(random_state=seed).as_quat())
    there = np.array(
        [np.concatenate([(m := moved @ pose(p)).translation, m.quaternion]) for p in poses]
    )
    result = at(Curve(poses), 1, 2, share).pose
    again = at(Curve(there), 1, 2, share).pose
    assert np.allclose(offset(moved @ result, again), 0.0, atol=1e-6)


@pytest.mark.parametrize(
    "poses",
    [
        track([0.0, 0.01, 4.0, 4.01], [0.0, 0.01, 0.0, 0.01], [0.0] * 4),  # stood and drove on
        track([0.0, 5.0, 10.0, 15.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 1.5, 3.0]),  # on the spot
        track([0.0, 1.0], [0.0, 0.0], [0.0, 0.1]),  # two images alone
    ],
    ids=["uneven", "turning", "alone"],
)
def test_stretches_that_say_nothing_of_each_other_are_straight(poses):
    curve = Curve(poses)
    start = len(poses) // 2 - 1
    point = at(curve, start, start + 1, 0.3)
    assert np.allclose(point.bend, 0.0, atol=1e-12)
    assert np.isfinite(point.pose.translation).all() and np.isfinite(point.slope).all()


def halfway(curve, row):
    """Variances of a pose halfway between an image and the next one."""
    rows = np.array([row, row + 1])
    return np.diag(curve.between(rows, np.zeros(2), np.zeros(2), np.inf).bend)


def test_a_pose_on_an_uneven_road_is_as_unsure_as_the_images_are_uneven():
    rng, places = np.random.default_rng(5), np.arange(200.0)
    level = track(places, 0 * places, 0 * places)
    heights, tilts = 0.02 * rng.normal(size=200), 0.01 * rng.normal(size=(200, 2))
    rough = level.copy()
    rough[:, 2] = heights
    rough[:, 3:] = Rotation.from_euler("xy", tilts).as_quat()
    assert halfway(Curve(level), 100)[2:5] == pytest.approx(0.0, abs=1e-12)
    variances = np.mean([halfway(Curve(rough), row) for row in range(20, 180, 10)], axis=0)
    # An image and the mean of two neighbours differ by 3/2 of the variance of each.
    assert variances[2] == pytest.approx(1.5 * 0.02**2 / 4, rel=0.3)
    assert variances[3:5] == pytest.approx(1.5 * 0.01**2 / 4, rel=0.3)


def test_what_a_road_does_far_away_does_not_change_how_unsure_a_pose_is():
    rng, places = np.random.default_rng(6), np.arange(300.0)
    rough = track(places, 0 * places, 0 * places, 0.02 * rng.normal(size=300))
    before = track(places - 300.0, 0 * places, 0 * places, 0.5 * rng.normal(size=300))
    alone, longer = Curve(rough), Curve(np.concatenate([before, rough]))
    for row in (20, 100, 256, 280):
        assert np.allclose(halfway(alone, row), halfway(longer, 300 + row), rtol=1e-9)


def test_an_image_without_neighbours_is_its_own_pose():
    poses = track([3.0], [1.0], [0.5])
    curve = Curve(poses)
    point = at(curve, 0, 0, 0.5)
    assert (
        distance(point.pose, pose(poses[0])) == pytest.approx((0, 0))
        and not point.bend.any()
        and not point.slope.any()
    )
