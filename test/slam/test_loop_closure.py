# SPDX-License-Identifier: Apache-2.0
"""Laws of loop closures: when they are reported, with which covariance, and their message."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from disam_ros.config import LoopClosureConfig
from disam_ros.errors import LoopClosureError
from disam_ros.geometry import PoseWithCovariance, Transform, distance
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.slam import loop_closure
from disam_ros.slam.keyframes import DrivenPath
from disam_ros.slam.loop_closure import PLACE_DISTANCE, UNSCALED_SIGMA, LoopCloser
from disam_ros.slam.loop_closure_message import (
    MAP,
    OWN,
    LoopClosure,
    from_values,
    summary,
    to_values,
)
from disam_ros.slam.map_match import MapMatch

RADIUS, STEP = 30.0, 2.0  # metres: a circle of 188 m, an image each two metres
LAP = round(2 * np.pi * RADIUS / STEP)
SECOND = 1_000_000_000
CONFIG = LoopClosureConfig(keyframe_distance=2.0)


def pose(index, drift=0.0):
    """Around a circle; drift: metres of error per metre driven, sideways."""
    angle = 2 * np.pi * index / LAP
    x, y = RADIUS * np.sin(angle), RADIUS * (1 - np.cos(angle)) + drift * STEP * index
    return Transform.from_xyz_rpy([x, y, 0.0, 0.0, 0.0, angle])


def descriptors(place):
    """Random, similar only where the place is the same."""
    rng = np.random.default_rng(place)
    return rng.standard_normal(32), rng.standard_normal((256, 1, 1))


def reading(odom_from_base, number=0):
    """Odometry; number: of its frame."""
    return Reading(odom_from_base, 0.0, number)


def drive(closer, count, place=lambda i: i % LAP, drift=0.001, start=0, given=lambda i: True):
    """Loop closures of images; given: which have odometry."""
    closures = []
    for i in range(start, start + count):
        odometry = reading(pose(i, drift)) if given(i) else None
        closures += closer.add((i + 1) * SECOND, odometry, *descriptors(place(i)))
    return closures


def never(i):
    return False


odometry_or_none = pytest.mark.parametrize(
    "given", [lambda i: True, never], ids=["odometry", "none"]
)


def index(stamp_ns):
    return stamp_ns // SECOND - 1


@odometry_or_none
def test_a_second_lap_closes_the_loop_and_each_closure_names_the_right_place(given):
    closures = drive(LoopCloser(CONFIG), 2 * LAP, given=given)
    assert len(closures) > 10
    assert all(index(c.stamp_ns) - index(c.keyframe_stamp_ns) == LAP for c in closures)
    assert all(c.kind == OWN and c.score > 0.99 for c in closures)


@odometry_or_none
def test_a_drive_that_sees_no_place_again_has_no_loop_closure(given):
    assert drive(LoopCloser(CONFIG), 2 * LAP, place=lambda i: i, given=given) == []


def test_neighbours_in_time_are_no_loop_however_similar():
    closer = LoopCloser(CONFIG)
    assert drive(closer, 24, place=lambda i: 0) == []  # 24 s and 48 m: below both limits


@odometry_or_none
def test_a_keyframe_is_matched_only_when_it_is_old_enough(monkeypatch, given):
    monkeypatch.setattr(loop_closure, "MIN_AGE", 1e6)
    assert drive(LoopCloser(CONFIG), 2 * LAP, given=given) == []


@odometry_or_none
def test_a_keyframe_is_matched_only_when_it_lies_far_enough_back(given):
    assert drive(LoopCloser(replace(CONFIG, min_path=1e6)), 2 * LAP, given=given) == []


@odometry_or_none
def test_one_loop_closure_per_place(given):
    closures = drive(LoopCloser(CONFIG), 2 * LAP, given=given)
    gaps = np.diff([index(c.stamp_ns) for c in closures]) * STEP
    assert gaps.min() >= PLACE_DISTANCE - STEP  # a chord is shorter than its arc


def test_a_vehicle_that_stands_still_closes_no_loop():
    closer = LoopCloser(CONFIG)
    drive(closer, LAP + 3)
    here = reading(pose(LAP + 2, 0.001))
    stays = [closer.add((1000 + k) * SECOND, here, *descriptors(2)) for k in range(50)]
    assert stays == [[]] * 50


def test_without_odometry_a_view_that_stays_the_same_is_no_keyframe():
    closer, rng = LoopCloser(CONFIG), np.random.default_rng(0)
    drive(closer, LAP + 3, given=never)
    before = len(closer)
    for k in range(50):
        coarse, fine = descriptors(2)
        noisy = fine + 0.3 * rng.standard_normal(fine.shape)
        assert closer.add((1000 + k) * SECOND, None, coarse, noisy) == []
    assert len(closer) == before


@odometry_or_none
def test_a_single_match_is_not_accepted(given):
    """Three places of the first lap appear again, far apart, on an otherwise new road."""
    known = {LAP + 10: 10, LAP + 30: 30, LAP + 50: 50}

    def place(i):
        return known.get(i, i)

    assert drive(LoopCloser(CONFIG), 2 * LAP, place, given=given) == []
    assert drive(LoopCloser(CONFIG, 1), 2 * LAP, place, given=given)


@odometry_or_none
def test_matches_in_another_order_than_the_vehicle_drives_are_not_accepted(given):
    """The second lap shows the first one's places in any order."""
    order = np.random.default_rng(0).permutation(LAP)

    def place(i):
        return i if i < LAP else order[i - LAP]

    assert drive(LoopCloser(CONFIG), 2 * LAP, place, given=given) == []


@odometry_or_none
@pytest.mark.parametrize("pace", [0, 4])
def test_matches_that_advance_unlike_the_vehicle_are_not_accepted(pace, given):
    """The second lap shows one place only, or the first one's four times as fast."""

    def place(i):
        return i if i < LAP else (7 + pace * (i - LAP)) % LAP

    assert drive(LoopCloser(CONFIG), LAP + LAP // 4, place, given=given) == []


GIVEN = {
    "from the second lap on": lambda i: i >= LAP,
    "in the first lap": lambda i: i < LAP,
    "now and then": lambda i: i // 15 % 2 == 0,
    "every other image": lambda i: i % 2 == 0,
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_odometry_may_come_and_go_within_a_drive(given):
    closures = drive(LoopCloser(CONFIG), 2 * LAP, given=given)
    assert len(closures) > 7
    assert all(index(c.stamp_ns) - index(c.keyframe_stamp_ns) == LAP for c in closures)


def test_metres_that_the_view_counted_are_not_driven_again_when_odometry_is_back():
    """The keyframes before a gap, 30 of 75 images, lie as far back as without it."""
    path = DrivenPath(2.0, 0.4)
    for i in range(75):
        if 20 <= i < 50:
            path.by_view(descriptors(i)[1].astype(np.float32))
        else:
            path.by_odometry(reading(Transform.from_xyz_rpy([2.0 * i, 0.0, 0.0, 0.0, 0.0, 0.0])))
    assert path.travelled == pytest.approx(2.0 * 74)


def test_without_odometry_the_translation_is_as_uncertain_as_the_scale():
    closures = drive(LoopCloser(CONFIG), 2 * LAP, given=never)
    for closure in closures:
        assert not closure.metric
        assert np.allclose(np.diag(closure.keyframe_from_base.covariance)[:3], UNSCALED_SIGMA**2)


@pytest.mark.parametrize(("max_drift", "accepted"), [(0.0, False), (0.3, True)])
def test_a_loop_that_needs_more_drift_than_odometry_has_is_not_accepted(
    monkeypatch, max_drift, accepted
):
    monkeypatch.setattr(loop_closure, "MAX_DRIFT", max_drift)
    assert bool(drive(LoopCloser(CONFIG), 2 * LAP, drift=0.1)) == accepted


def test_odometry_that_jumps_costs_a_few_loop_closures_not_all():
    closer, jump = LoopCloser(CONFIG), Transform.from_xyz_rpy([500.0, -80.0, 0.0, 0.0, 0.0, 2.0])
    first = drive(closer, LAP + 10)
    after = []
    for i in range(LAP + 10, 2 * LAP):
        odometry = reading(jump @ pose(i, 0.001), 1)  # OdometryTrack counts its frames
        after += closer.add((i + 1) * SECOND, odometry, *descriptors(i % LAP))
    assert first and len(after) > 10
    assert all(index(c.stamp_ns) - index(c.keyframe_stamp_ns) == LAP for c in after)


def test_images_out_of_order_are_refused_and_the_drive_goes_on():
    closer = LoopCloser(CONFIG)
    drive(closer, LAP)
    with pytest.raises(LoopClosureError, match="order of time"):
        closer.add(5 * SECOND, reading(pose(4)), *descriptors(4))
    assert drive(closer, LAP, start=LAP)


@pytest.mark.parametrize("coarse", [np.zeros(32), np.full(32, np.nan)])
def test_descriptors_that_are_none_are_refused(coarse):
    with pytest.raises(LoopClosureError, match="descriptor"):
        LoopCloser(CONFIG).add(SECOND, reading(pose(0)), coarse, descriptors(0)[1])


def test_descriptors_of_another_model_are_refused():
    closer = LoopCloser(CONFIG)
    drive(closer, 3)
    with pytest.raises(LoopClosureError, match="another"):
        closer.add(100 * SECOND, reading(pose(20)), np.ones(16), descriptors(0)[1])


def test_memory_is_bounded_and_old_places_are_still_met_again(monkeypatch):
    """Views change slowly: keyframes have to be twice, then four times as far apart."""
    monkeypatch.setattr(loop_closure, "MAX_KEYFRAMES", 32)
    views = np.random.default_rng(0).standard_normal((LAP, 256))
    near = np.arange(LAP)[:, None] - np.arange(LAP)
    blend = np.exp(-0.5 * ((near + LAP // 2) % LAP - LAP // 2) ** 2 / 5.0**2)
    views = (blend @ views)[..., None, None]
    closer, closures = LoopCloser(CONFIG), []
    for i in range(3 * LAP):
        view = views[i % LAP]
        closures += closer.add((i + 1) * SECOND, reading(pose(i)), view.ravel(), view)
    assert len(closer) <= 32
    late = [(index(c.keyframe_stamp_ns), index(c.stamp_ns)) for c in closures][-5:]
    assert any(then < LAP and now > 2 * LAP for then, now in late)
    assert all(distance(pose(then), pose(now))[0] <= 8.0 for then, now in late)


def test_without_odometry_memory_is_bounded_likewise(monkeypatch):
    monkeypatch.setattr(loop_closure, "MAX_KEYFRAMES", 64)
    closer = LoopCloser(CONFIG)
    for i in range(3 * LAP):
        closer.add((i + 1) * SECOND, None, *descriptors(i))
        assert len(closer) <= 64
    assert min(closer.stamps_ns()) == SECOND and len(closer) > 32


def test_the_covariance_of_an_unverified_match_covers_the_error_of_the_place():
    """Second lap between the keyframes of the first: squared errors within their expectation."""
    closures = []
    closer = LoopCloser(CONFIG)
    for i in range(LAP):
        closer.add((i + 1) * SECOND, reading(pose(i)), *descriptors(i))
    for i in range(LAP, 2 * LAP):
        odometry = reading(pose(i + 0.4))
        closures += closer.add((i + 1) * SECOND, odometry, *descriptors(i - LAP))
    gaps = [
        pose(index(c.stamp_ns) + 0.4).translation - pose(index(c.keyframe_stamp_ns)).translation
        for c in closures
    ]
    spread = [c.keyframe_from_base.covariance[:3, :3] for c in closures]
    assert all(g @ np.linalg.solve(s, g) < 9 for g, s in zip(gaps, spread, strict=True))


def match(i):
    return MapMatch(stamp_ns=i, map_from_base=pose(i), score=0.9, spacing=STEP)


def map_closures(matches):
    closer, result = LoopCloser(CONFIG), []
    for i, place in enumerate(matches):
        result += closer.add_map_match((i + 1) * SECOND, reading(pose(i)), place)
    return result


def test_places_on_the_map_close_loops_likewise():
    result = map_closures([match(i) for i in range(LAP)])
    assert len(result) > 10 and all(c.kind == MAP for c in result)
    assert all(c.map_from_keyframe == pose(c.keyframe_stamp_ns) for c in result)


def test_wrong_or_unknown_places_on_the_map_interrupt_the_sequence():
    order = np.random.default_rng(1).permutation(LAP)
    assert map_closures([match(i) for i in order]) == []
    assert map_closures([match(i) if i % 3 else None for i in range(LAP)]) == []


def test_a_relative_pose_to_the_map_image_is_passed_on_with_its_inliers():
    relative = PoseWithCovariance(Transform.from_xyz_rpy([0.2, 0, 0, 0, 0, 0.1]), np.eye(6))
    measured = [replace(match(i), keyframe_from_base=relative, inliers=40) for i in range(LAP)]
    result = map_closures(measured)
    assert result and all(c.keyframe_from_base is relative and c.inliers == 40 for c in result)


def test_both_kinds_may_be_asked_for_the_same_image():
    closer, kinds = LoopCloser(CONFIG), set()
    for i in range(2 * LAP):
        stamp_ns, odometry = (i + 1) * SECOND, reading(pose(i))
        kinds |= {c.kind for c in closer.add_map_match(stamp_ns, odometry, match(i))}
        kinds |= {c.kind for c in closer.add(stamp_ns, odometry, *descriptors(i % LAP))}
    assert kinds == {OWN, MAP}


numbers = st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6)


@settings(max_examples=50, deadline=None)
@drawn(numbers, numbers, st.floats(-1, 1), st.integers(0, 10_000), st.booleans(), st.booleans())
def test_a_loop_closure_comes_back_from_its_message_as_it_was(
    xyz_rpy, root, score, inliers, on_map, metric
):
    relative = PoseWithCovariance(Transform.from_xyz_rpy(xyz_rpy), np.outer(root, root) + np.eye(6))
    place = Transform.from_xyz_rpy(xyz_rpy[::-1]) if on_map else None
    kind = MAP if on_map else OWN
    closure = LoopClosure(1758214380123456789, 17, relative, score, inliers, kind, place, metric)
    back = from_values(to_values(closure))
    assert (back.stamp_ns, back.keyframe_stamp_ns, back.score) == (closure.stamp_ns, 17, score)
    assert (back.kind, back.inliers, back.metric) == (closure.kind, inliers, metric)
    assert np.array_equal(back.keyframe_from_base.covariance, relative.covariance)
    same = [(back.keyframe_from_base.pose, relative.pose)]
    same += [(back.map_from_keyframe, place)] if on_map else []
    for a, b in same:
        assert np.array_equal(a.translation, b.translation)
        assert np.allclose(a.quaternion, b.quaternion, atol=1e-15)
    assert summary(closure)


def test_the_keys_of_the_message_are_those_of_the_documentation():
    relative = PoseWithCovariance(Transform.identity(), np.eye(6))
    values = to_values(LoopClosure(2, 1, relative, 0.5, 3, MAP, Transform.identity()))
    assert values == {
        "kind": "map",
        "stamp (ns)": "2",
        "keyframe stamp (ns)": "1",
        "keyframe from base": "0.0 0.0 0.0 0.0 0.0 0.0 1.0",
        "covariance": " ".join(map(str, np.eye(6).ravel())),
        "score": "0.5",
        "inliers": "3",
        "metric": "true",
        "map from keyframe": "0.0 0.0 0.0 0.0 0.0 0.0 1.0",
    }


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("covariance", "1 2 3", "covariance"),
        ("covariance", " ".join(["0"] * 36), "positive"),
        ("score", "high", "score"),
        ("keyframe from base", "0 0 0 0 0 0 2", "keyframe from base"),
        ("kind", "other", "kind"),
        ("kind", "map", "pose on the map"),
        ("inliers", None, "without 'inliers'"),
        ("metric", "perhaps", "metric"),
    ],
)
def test_a_damaged_message_is_refused_and_the_key_named(key, value, named):
    relative = PoseWithCovariance(Transform.identity(), np.eye(6))
    values = to_values(LoopClosure(2, 1, relative, 0.5))
    values.pop(key)
    if value is not None:
        values[key] = value
    with pytest.raises(LoopClosureError, match=named):
        from_values(values)
