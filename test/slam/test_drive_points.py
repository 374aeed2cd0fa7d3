# SPDX-License-Identifier: Apache-2.0
"""Laws of a drive's points: where depths come from, what they tell of a place met again.

A camera that looks to the side drives along a textured wall; what it sees is rendered.
"""

import weakref
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from support import scene

from disam_ros.config import LoopClosureConfig
from disam_ros.geometry import Transform, distance
from disam_ros.slam import loop_closure
from disam_ros.slam.keypoints import (
    LEAST_INLIERS,
    REACH,
    DrivePoints,
    PointTrail,
    View,
    base_relation,
    relate,
)
from disam_ros.slam.loop_closure import LoopCloser
from disam_ros.slam.loop_hint import Relation

MOUNT = Transform.from_xyz_rpy([0.5, -0.3, 1.2, -np.pi / 2, 0.0, -np.pi])  # optical, to the right
CAMERA = replace(scene.CAMERA, base_from_camera=MOUNT)
WIDE = Relation(Transform.identity(), np.diag([3.0] * 3 + [0.0076] * 3))
COUNT = 256
SECOND = 10**9
PLACES = 10  # keyframes along the wall
STEP = 1.5  # metres
CONFIG = LoopClosureConfig(
    keyframe_distance=1.4, min_age=5.0, min_path=20.0, agreeing=3, place_distance=3.0, points=COUNT
)


@cache
def picture(x, z=0.0, turn=0.0, seed=0):
    return scene.render(scene.pose(x, 0.0, z, turn), seed)


def view(x, z=0.0, turn=0.0, seed=0):
    return View(picture(x, z, turn, seed)[0], CAMERA)


def vehicle(x, z=0.0, turn=0.0):
    """The vehicle's pose in the axes of the scene."""
    return scene.pose(x, 0.0, z, turn) @ MOUNT.inverse()


def along(*places, **options):
    """Points of keyframes at these places of the wall."""
    trail = PointTrail(COUNT)
    return [trail.take(view(x, **options), vehicle(x)) for x in places]


def errors(relation, truth):
    """Metres and rotation vector [6] about the axes of the vehicle then."""
    found = relation.keyframe_from_base
    turn = found @ truth.inverse()
    half = turn.quaternion[:3] * np.sign(turn.quaternion[3])
    return np.concatenate([found.translation - truth.translation, 2.0 * half])


def test_depths_appear_with_the_next_keyframe_and_are_those_of_the_scene():
    trail = PointTrail(COUNT)
    first = trail.take(view(0.0), vehicle(0.0))
    assert not first.precision.any()
    second = trail.take(view(STEP), vehicle(STEP))
    for points, x in ((first, 0.0), (second, STEP)):
        known = points.precision > 0
        assert known.sum() > 50
        pixels = points.views[known] * scene.CAMERA.fx + [scene.CAMERA.cx, scene.CAMERA.cy]
        column, row = np.rint(pixels).astype(int).T
        truth = picture(x)[1][row, column]
        assert np.median(np.abs(points.inverse[known] * truth - 1.0)) < 0.02
        sigmas = (points.inverse[known] - 1.0 / truth) * np.sqrt(points.precision[known])
        assert np.median(np.abs(sigmas)) < 1.5


def test_an_image_on_the_way_gives_more_points_a_depth():
    far = 3 * STEP
    trail = PointTrail(COUNT)
    trail.take(view(0.0), vehicle(0.0))
    trail.pass_by(view(0.0), vehicle(0.0), STEP)  # too near
    trail.pass_by(view(STEP), vehicle(STEP), STEP)
    helped = trail.take(view(far), vehicle(far))
    assert (helped.precision > 0).sum() > (along(0.0, far)[1].precision > 0).sum()


def test_where_odometry_was_lost_no_depth_comes_from_before():
    trail = PointTrail(COUNT)
    trail.take(view(0.0), vehicle(0.0))
    trail.pass_by(view(STEP), vehicle(STEP), 1.0)
    trail.break_off()
    assert not trail.take(view(STEP), vehicle(STEP)).precision.any()


def test_a_depth_that_a_second_image_contradicts_is_forgotten_and_one_it_confirms_is_surer():
    (points,) = along(0.0)
    rows = np.array([3, 5])
    points.learn(rows, np.array([0.1, 0.1]), np.array([1e4, 1e4]))
    points.learn(rows, np.array([0.11, 0.3]), np.array([1e4, 1e4]))
    assert points.inverse[rows] == pytest.approx([0.105, 0.0])
    assert points.precision[rows] == pytest.approx([2e4, 0.0])


def test_a_place_met_again_is_measured_to_centimetres_and_the_covariance_covers_the_error():
    rng, squares, found = np.random.default_rng(0), [], []
    for seed in range(2):
        then = along(-STEP, 0.0, STEP, seed=seed)[1]
        for _ in range(6):
            x, z, turn = rng.uniform(-1, 1, 3) * [1.0, 0.8, 6.0]
            now = DrivePoints.of(view(x, z, turn, seed), COUNT)
            relation = relate(then, now, WIDE)
            truth = vehicle(0.0).inverse() @ vehicle(x, z, turn)
            error = errors(relation, truth)
            found.append(error)
            squares.append(error @ np.linalg.solve(relation.covariance, error))
            assert relation.inliers >= LEAST_INLIERS
            assert np.sqrt(np.trace(relation.covariance[:3, :3])) < 0.3
    found = np.abs(found)
    assert np.median(np.linalg.norm(found[:, :3], axis=1)) < 0.05
    assert np.median(np.degrees(np.linalg.norm(found[:, 3:], axis=1))) < 0.3
    assert np.mean(squares) < 12.0 and np.max(squares) < 40.0


def test_odometry_of_a_wrong_scale_stays_within_what_is_claimed():
    trail = PointTrail(COUNT)
    then = [trail.take(view(x), vehicle(1.03 * x)) for x in (-STEP, 0.0, STEP)][1]
    relation = relate(then, DrivePoints.of(view(1.0, 0.5, 3.0), COUNT), WIDE)
    error = errors(relation, vehicle(0.0).inverse() @ vehicle(1.0, 0.5, 3.0))
    assert error @ np.linalg.solve(relation.covariance, error) < 16.8  # 99 %


def test_points_of_another_place_contradict():
    then, now = along(-STEP, 0.0, STEP)[1], DrivePoints.of(view(0.0, seed=1), COUNT)
    assert relate(then, now, WIDE) is None


def test_without_any_depth_the_distance_stays_as_doubtful_as_it_was():
    then = DrivePoints.of(view(0.0), COUNT)
    known = along(-STEP, 0.0, STEP)[1]
    now = DrivePoints.of(view(1.0), COUNT)
    doubts = [np.trace(relate(p, now, WIDE).covariance[:3, :3]) ** 0.5 for p in (then, known)]
    assert doubts[0] > 3 * doubts[1]


def test_an_image_that_shows_nothing_leaves_the_relation_as_wide_as_it_is():
    grey = View(np.full((240, 320, 3), 90, np.uint8), CAMERA)
    nothing = DrivePoints.of(grey, COUNT)
    (then,) = along(0.0)
    assert relate(then, nothing, WIDE) is WIDE and relate(nothing, then, WIDE) is WIDE


def looks(place):
    """Descriptors of a place: random, alike only where the place is the same."""
    rng = np.random.default_rng(place)
    return rng.standard_normal(32), rng.standard_normal(256)


def two_laps(closer, views=True, seed=0, again=(0.3, 0.2, 2.0)):
    """Along the wall, around behind it, and along it once more, a little aside."""
    aside, z, turn = again
    first = [(i, STEP * i, 0.0, 0.0, 0) for i in range(PLACES)]
    around = [  # a half circle back to the start
        (100 + k, STEP * PLACES / 2 * (1 + np.cos(a)), -STEP * PLACES / 2 * np.sin(a), 0.0, None)
        for k, a in enumerate(np.linspace(0.0, np.pi, 12))
    ]
    second = [(i, STEP * i + aside, z, turn, seed) for i in range(PLACES)]
    hints, truth = [], {}
    for stamp, (place, x, depth, angle, shown) in enumerate([*first, *around, *second], 1):
        pose = vehicle(x - 6.0, depth, angle)
        seen = view(x - 6.0, depth, angle, shown) if views and shown is not None else None
        truth[stamp * SECOND] = pose
        hints += closer.add(stamp * SECOND, pose, *looks(place), seen)
    return hints, truth


def test_a_loop_is_told_with_a_measured_relation_and_points_are_compared_only_for_it(monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return relate(*arguments)

    monkeypatch.setattr(loop_closure, "relate", counted)
    hints, truth = two_laps(LoopCloser(CONFIG))
    assert len(hints) >= 2 and len(calls) == len(hints)
    for hint in hints:
        true = truth[hint.keyframe_stamp_ns].inverse() @ truth[hint.stamp_ns]
        error = errors(hint.relation, true)
        assert np.linalg.norm(error[:3]) < 0.1 and hint.relation.inliers >= LEAST_INLIERS
        assert error @ np.linalg.solve(hint.relation.covariance, error) < 25.0
        assert distance(hint.relation.keyframe_from_base, Transform.identity())[0] > 0.2


def test_a_loop_whose_points_are_of_another_place_is_not_told_however_alike_it_looks():
    hints, _ = two_laps(LoopCloser(CONFIG), seed=1)
    assert hints == []


@pytest.mark.parametrize(("views", "points"), [(False, COUNT), (True, 0)])
def test_without_images_or_points_hints_are_given_unverified_and_wide(views, points):
    config = LoopClosureConfig(**{**vars(CONFIG), "points": points})
    hints, _ = two_laps(LoopCloser(config), views)
    assert len(hints) >= 2
    for hint in hints:
        assert hint.relation.inliers == 0
        assert hint.relation.keyframe_from_base == Transform.identity()
        assert np.trace(hint.relation.covariance[:3, :3]) > 3.0


def test_points_are_forgotten_with_their_keyframes(monkeypatch):
    made, of = [], DrivePoints.of

    def counted(view, count):
        points = of(view, count)
        made.append(weakref.ref(points))
        return points

    monkeypatch.setattr(DrivePoints, "of", counted)
    config = LoopClosureConfig(keyframe_distance=1.0, max_keyframes=16, points=COUNT)
    closer, shown = LoopCloser(config), view(0.0)
    for i in range(80):
        pose = Transform.from_xyz_rpy([i, 0.0, 0.0, 0.0, 0.0, 0.0])
        closer.add(i * SECOND, pose, *looks(i), shown)
        kept = sum(one() is not None for one in made)
        assert len(closer) <= kept <= len(closer) + REACH and len(closer) <= 16
    assert len(made) > 32  # thinned twice at least


def test_an_error_of_the_camera_moves_the_vehicle_as_its_covariance_says():
    """Against differences of the relation itself; the two mounts differ."""
    then, now = along(0.0, STEP)
    now.base_from_camera = Transform.from_xyz_rpy([-0.4, 0.6, 1.5, -1.4, 0.1, -2.9])
    pose, size = Transform.from_xyz_rpy([0.4, -0.1, 0.9, 0.1, 0.3, -0.2]), 1e-6
    before = base_relation(pose, np.eye(6), then, now, 0)
    columns = []
    for step in size * np.eye(6):
        turn = Transform.from_xyz_rpy([0.0, 0.0, 0.0, *step[3:]])
        moved = Transform(pose.translation + step[:3], (turn @ pose).quaternion)
        after = base_relation(moved, np.eye(6), then, now, 0)
        columns.append(errors(after, before.keyframe_from_base) / size)
    jacobian = np.array(columns).T
    assert np.allclose(before.covariance, jacobian @ jacobian.T, atol=1e-4)
