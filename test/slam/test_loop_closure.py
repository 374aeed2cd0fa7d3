# SPDX-License-Identifier: Apache-2.0
"""Laws of loop closure hints: when they are given, what they claim, how they travel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disam_ros.config import LoopClosureConfig
from disam_ros.errors import LoopClosureError
from disam_ros.geometry import Transform, distance
from disam_ros.slam.loop_closure import LoopCloser, MapMatch
from disam_ros.slam.loop_hint import MAP, OWN, Hint, Relation, from_values, summary, to_values

RADIUS, STEP = 30.0, 2.0  # metres: a circle of 188 m, an image each two metres
LAP = round(2 * np.pi * RADIUS / STEP)
SECOND = 1_000_000_000
CONFIG = LoopClosureConfig(keyframe_distance=2.0, max_keyframes=200)


def pose(index, drift=0.0):
    """Around a circle; drift: metres of error per metre driven, sideways."""
    angle = 2 * np.pi * index / LAP
    x, y = RADIUS * np.sin(angle), RADIUS * (1 - np.cos(angle)) + drift * STEP * index
    return Transform.from_xyz_rpy([x, y, 0.0, 0.0, 0.0, angle])


def looks(place):
    """Descriptors of a place: random, alike only where the place is the same."""
    rng = np.random.default_rng(place)
    return rng.standard_normal(32), rng.standard_normal(256)


def drive(closer, count, place=lambda i: i % LAP, drift=0.001, start=0):
    hints = []
    for i in range(start, start + count):
        hints += closer.add((i + 1) * SECOND, pose(i, drift), *looks(place(i)))
    return hints


def index(stamp_ns):
    return stamp_ns // SECOND - 1


def test_a_second_lap_is_told_and_each_hint_names_the_right_place():
    hints = drive(LoopCloser(CONFIG), 2 * LAP)
    assert len(hints) > 10
    assert all(index(h.stamp_ns) - index(h.keyframe_stamp_ns) == LAP for h in hints)
    assert all(h.kind == OWN and h.score > 0.99 for h in hints)


def test_a_drive_that_meets_no_place_again_gets_no_hint():
    assert drive(LoopCloser(CONFIG), LAP - 1) == []


def test_neighbours_in_time_are_no_loop_however_alike():
    closer = LoopCloser(CONFIG)
    assert drive(closer, 24, place=lambda i: 0) == []  # 24 s and 48 m: below both limits


@pytest.mark.parametrize("limit", ["min_age", "min_path"])
def test_a_keyframe_counts_only_when_old_enough_and_far_enough_back(limit):
    config = replace(CONFIG, **{limit: 1e6})
    assert drive(LoopCloser(config), 2 * LAP) == []


def test_one_hint_per_place():
    hints = drive(LoopCloser(CONFIG), 2 * LAP)
    gaps = np.diff([index(h.stamp_ns) for h in hints]) * STEP
    assert gaps.min() >= CONFIG.place_distance - STEP  # a chord is shorter than its arc


def test_a_vehicle_that_stands_still_gets_no_hint():
    closer = LoopCloser(CONFIG)
    drive(closer, LAP + 3)
    stays = [closer.add((1000 + k) * SECOND, pose(LAP + 2, 0.001), *looks(2)) for k in range(50)]
    assert stays == [[]] * 50


def test_a_single_match_is_not_believed():
    """Three places of the first lap appear again, far apart, on an otherwise new road."""
    known = {LAP + 10: 10, LAP + 30: 30, LAP + 50: 50}
    assert drive(LoopCloser(CONFIG), 2 * LAP, place=lambda i: known.get(i, i)) == []


def test_matches_that_odometry_contradicts_are_not_believed():
    """The second lap shows the first one's places in any order."""
    order = np.random.default_rng(0).permutation(LAP)
    assert drive(LoopCloser(CONFIG), 2 * LAP, lambda i: i if i < LAP else order[i - LAP]) == []


def test_one_place_that_resembles_everything_is_not_believed():
    assert drive(LoopCloser(CONFIG), 2 * LAP, lambda i: i if i < LAP else 7) == []


def test_a_loop_that_needs_more_drift_than_odometry_has_is_not_believed():
    wrong_street = replace(CONFIG, max_drift=0.0)
    assert drive(LoopCloser(wrong_street), 2 * LAP, drift=0.1) == []
    assert drive(LoopCloser(replace(CONFIG, max_drift=0.3)), 2 * LAP, drift=0.1)


def test_unlike_images_are_no_hint():
    assert drive(LoopCloser(CONFIG), 2 * LAP, place=lambda i: i) == []


def test_odometry_that_jumps_costs_a_few_hints_not_all():
    closer, jump = LoopCloser(CONFIG), Transform.from_xyz_rpy([500.0, -80.0, 0.0, 0.0, 0.0, 2.0])
    first = drive(closer, LAP + 10)
    after = []
    for i in range(LAP + 10, 2 * LAP):
        after += closer.add((i + 1) * SECOND, jump @ pose(i, 0.001), *looks(i % LAP))
    assert first and len(after) > 10
    assert all(index(h.stamp_ns) - index(h.keyframe_stamp_ns) == LAP for h in after)


def test_images_out_of_order_are_refused_and_the_drive_goes_on():
    closer = LoopCloser(CONFIG)
    drive(closer, LAP)
    with pytest.raises(LoopClosureError, match="order of time"):
        closer.add(5 * SECOND, pose(4), *looks(4))
    assert drive(closer, LAP, start=LAP)


@pytest.mark.parametrize("coarse", [np.zeros(32), np.full(32, np.nan)])
def test_descriptors_that_are_none_are_refused(coarse):
    with pytest.raises(LoopClosureError, match="descriptor"):
        LoopCloser(CONFIG).add(SECOND, pose(0), coarse, looks(0)[1])


def test_descriptors_of_another_model_are_refused():
    closer = LoopCloser(CONFIG)
    drive(closer, 3)
    with pytest.raises(LoopClosureError, match="another"):
        closer.add(100 * SECOND, pose(20), np.ones(16), looks(0)[1])


def test_memory_is_bounded_and_old_places_are_still_met_again():
    """Views change slowly: keyframes have to be twice, then four times as far apart."""
    views = np.random.default_rng(0).standard_normal((LAP, 256))
    near = np.arange(LAP)[:, None] - np.arange(LAP)
    blend = np.exp(-0.5 * ((near + LAP // 2) % LAP - LAP // 2) ** 2 / 5.0**2)
    views = blend @ views
    closer, hints = LoopCloser(replace(CONFIG, max_keyframes=32)), []
    for i in range(3 * LAP):
        hints += closer.add((i + 1) * SECOND, pose(i), views[i % LAP], views[i % LAP])
    assert len(closer) <= 32
    late = [(index(h.keyframe_stamp_ns), index(h.stamp_ns)) for h in hints][-5:]
    assert any(then < LAP and now > 2 * LAP for then, now in late)
    assert all(distance(pose(then), pose(now))[0] <= 8.0 for then, now in late)


def test_without_an_image_to_verify_it_the_covariance_tells_the_error_of_the_place():
    """Second lap between the keyframes of the first: squared errors within their expectation."""
    hints = []
    closer = LoopCloser(CONFIG)
    for i in range(LAP):
        closer.add((i + 1) * SECOND, pose(i), *looks(i))
    for i in range(LAP, 2 * LAP):
        hints += closer.add((i + 1) * SECOND, pose(i + 0.4), *looks(i - LAP))
    gaps = [
        pose(index(h.stamp_ns) + 0.4).translation - pose(index(h.keyframe_stamp_ns)).translation
        for h in hints
    ]
    spread = [h.relation.covariance[:3, :3] for h in hints]
    assert all(g @ np.linalg.solve(s, g) < 9 for g, s in zip(gaps, spread, strict=True))


def match(i):
    return MapMatch(stamp_ns=i, map_from_base=pose(i), score=0.9, spacing=STEP)


def map_hints(matches):
    closer, found = LoopCloser(CONFIG), []
    for i, place in enumerate(matches):
        found += closer.map_hint((i + 1) * SECOND, pose(i), place)
    return found


def test_places_on_the_map_are_told_likewise():
    found = map_hints([match(i) for i in range(LAP)])
    assert len(found) > 10 and all(h.kind == MAP for h in found)
    assert all(h.map_from_keyframe == pose(h.keyframe_stamp_ns) for h in found)


def test_wrong_or_unknown_places_on_the_map_break_the_row():
    order = np.random.default_rng(1).permutation(LAP)
    assert map_hints([match(i) for i in order]) == []
    assert map_hints([match(i) if i % 3 else None for i in range(LAP)]) == []


def test_both_kinds_may_be_asked_for_the_same_image():
    closer, kinds = LoopCloser(CONFIG), set()
    for i in range(2 * LAP):
        kinds |= {h.kind for h in closer.map_hint((i + 1) * SECOND, pose(i), match(i))}
        kinds |= {h.kind for h in closer.add((i + 1) * SECOND, pose(i), *looks(i % LAP))}
    assert kinds == {OWN, MAP}


numbers = st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers, st.floats(-1, 1), st.integers(0, 10_000), st.booleans())
def test_a_hint_comes_back_from_its_message_as_it_was(xyz_rpy, root, score, inliers, on_map):
    covariance = np.outer(root, root) + np.eye(6)
    relation = Relation(Transform.from_xyz_rpy(xyz_rpy), covariance, inliers)
    place = Transform.from_xyz_rpy(xyz_rpy[::-1]) if on_map else None
    hint = Hint(1758214380123456789, 17, relation, score, MAP if on_map else OWN, place)
    back = from_values(to_values(hint))
    assert (back.stamp_ns, back.keyframe_stamp_ns, back.score) == (hint.stamp_ns, 17, score)
    assert (back.kind, back.relation.inliers) == (hint.kind, inliers)
    assert np.array_equal(back.relation.covariance, covariance)
    same = [(back.relation.keyframe_from_base, relation.keyframe_from_base)]
    same += [(back.map_from_keyframe, place)] if on_map else []
    for a, b in same:
        assert np.array_equal(a.translation, b.translation)
        assert np.allclose(a.quaternion, b.quaternion, atol=1e-15)
    assert summary(hint)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("covariance", "1 2 3", "covariance"),
        ("covariance", " ".join(["0"] * 36), "positive"),
        ("score", "high", "score"),
        ("keyframe from base", "0 0 0 0 0 0 2", "keyframe from base"),
        ("kind", "other", "kind"),
        ("kind", "map", "pose on the map"),
        ("inliers", None, "without 'inliers'"),
    ],
)
def test_a_message_that_is_damaged_is_refused_by_name(key, value, told):
    values = to_values(Hint(2, 1, Relation(Transform.identity(), np.eye(6)), 0.5))
    values.pop(key)
    if value is not None:
        values[key] = value
    with pytest.raises(LoopClosureError, match=told):
        from_values(values)
