# SPDX-License-Identifier: Apache-2.0
"""Laws of keyframes' depths and of loop closures verified by their keypoints.

A camera that looks to the side drives along a textured wall; its images are rendered.
"""

import weakref
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from support import scene

from disam_ros.config import LoopClosureConfig
from disam_ros.geometry import PoseWithCovariance, Transform, distance, offset, retract
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.slam import keyframe_depths, loop_closure
from disam_ros.slam.keyframe_depths import REACH, KeyframeDepths, View, extract
from disam_ros.slam.loop_closure import UNSCALED_SIGMA, LoopCloser
from disam_ros.slam.loop_verification import MIN_INLIERS, pose_of_base, verify_loop

MOUNT = Transform.from_xyz_rpy([0.5, -0.3, 1.2, -np.pi / 2, 0.0, -np.pi])  # optical, to the right
CAMERA = replace(scene.CAMERA, base_from_camera=MOUNT)
UNVERIFIED = PoseWithCovariance(Transform.identity(), np.diag([3.0] * 3 + [0.0076] * 3))
COUNT = 256
SECOND = 10**9
PLACES = 10  # keyframes along the wall
STEP = 1.5  # metres
CONFIG = LoopClosureConfig(keyframe_distance=1.4, min_path=20.0, keypoints=COUNT)


@pytest.fixture
def short_drive(monkeypatch):
    """Loop closures on a drive of a few seconds and metres."""
    monkeypatch.setattr(loop_closure, "MIN_AGE", 5.0)
    monkeypatch.setattr(loop_closure, "CONSISTENT_KEYFRAMES", 3)
    monkeypatch.setattr(loop_closure, "PLACE_DISTANCE", 3.0)


@cache
def picture(x, z=0.0, turn=0.0, seed=0):
    return scene.render(scene.pose(x, 0.0, z, turn), seed)


def view(x, z=0.0, turn=0.0, seed=0):
    return View(picture(x, z, turn, seed)[0], CAMERA)


def vehicle(x, z=0.0, turn=0.0):
    """The vehicle's pose in the axes of the scene."""
    return scene.pose(x, 0.0, z, turn) @ MOUNT.inverse()


def reading(x, number=0):
    """Odometry there; number: of its frame."""
    return Reading(vehicle(x), 0.0, number)


def along(*places, **options):
    """Keypoints of keyframes at these places of the wall."""
    depths = KeyframeDepths(COUNT)
    return [depths.add(view(x, **options), reading(x)) for x in places]


def keypoints(*place):
    """Of one image, without depths."""
    return extract(view(*place), COUNT)


def verified(then, now, scaled=True):
    """The relative pose and the number of inliers."""
    result = verify_loop(then, now, UNVERIFIED, scaled)
    return result.pose, result.inliers


def normalized(found, truth):
    """Squared error over the covariance, 6 on average where that is right."""
    error = offset(truth, found.pose)
    return error @ np.linalg.solve(found.covariance, error)


def test_depths_appear_with_the_next_keyframe_and_are_those_of_the_scene():
    depths = KeyframeDepths(COUNT)
    first = depths.add(view(0.0), reading(0.0))
    assert not first.precisions.any()
    second = depths.add(view(STEP), reading(STEP))
    for result, x in ((first, 0.0), (second, STEP)):
        known = result[result.precisions > 0]
        assert len(known) > 50
        column, row = np.rint(known.pixels).astype(int).T
        truth = picture(x)[1][row, column]
        assert np.median(np.abs(known.inverse_depths * truth - 1.0)) < 0.02
        sigmas = (known.inverse_depths - 1.0 / truth) * np.sqrt(known.precisions)
        assert np.median(np.abs(sigmas)) < 1.5


def test_an_image_between_keyframes_gives_more_keypoints_a_depth():
    far = 3 * STEP
    depths = KeyframeDepths(COUNT)
    depths.add(view(0.0), reading(0.0))
    depths.observe(view(0.0), reading(0.0), STEP)  # too near
    depths.observe(view(STEP), reading(STEP), STEP)
    helped = depths.add(view(far), reading(far))
    assert (helped.precisions > 0).sum() > (along(0.0, far)[1].precisions > 0).sum()


@pytest.mark.parametrize("then", [None, reading(STEP, number=1)])
def test_where_odometry_is_missing_or_starts_over_there_are_no_depths(then):
    depths = KeyframeDepths(COUNT)
    depths.add(view(0.0), reading(0.0))
    depths.observe(view(STEP), then, 1.0)
    assert not depths.add(view(STEP), then).precisions.any()
    assert depths.add(view(2 * STEP), reading(2 * STEP)).precisions.any()  # from the first


def test_a_place_met_again_is_measured_to_centimetres_and_the_covariance_covers_the_error():
    rng, squares, errors = np.random.default_rng(0), [], []
    for seed in range(2):
        then = along(-STEP, 0.0, STEP, seed=seed)[1]
        for _ in range(6):
            x, z, turn = rng.uniform(-1, 1, 3) * [1.0, 0.8, 6.0]
            result, inliers = verified(then, keypoints(x, z, turn, seed))
            truth = vehicle(0.0).inverse() @ vehicle(x, z, turn)
            errors.append(distance(result.pose, truth))
            squares.append(normalized(result, truth))
            assert inliers >= MIN_INLIERS
            assert np.sqrt(np.trace(result.covariance[:3, :3])) < 0.3
    metres, degrees = np.median(errors, axis=0)
    assert metres < 0.05 and degrees < 0.3
    assert np.mean(squares) < 12.0 and np.max(squares) < 40.0


def test_odometry_of_a_wrong_scale_stays_within_the_covariance():
    depths = KeyframeDepths(COUNT)
    then = [depths.add(view(x), reading(1.03 * x)) for x in (-STEP, 0.0, STEP)][1]
    result, _ = verified(then, keypoints(1.0, 0.5, 3.0))
    assert normalized(result, vehicle(0.0).inverse() @ vehicle(1.0, 0.5, 3.0)) < 16.8  # 99 %


def test_keypoints_of_another_place_contradict():
    other = keypoints(0.0, 0.0, 0.0, 1)
    for then, scaled in ((along(-STEP, 0.0, STEP)[1], True), (keypoints(0.0), False)):
        assert verify_loop(then, other, UNVERIFIED, scaled) is None


def test_without_any_depth_the_distance_stays_as_uncertain_as_it_was():
    without, known = keypoints(0.0), along(-STEP, 0.0, STEP)[1]
    now = keypoints(1.0)
    scales = [verify_loop(then, now, UNVERIFIED) for then in (without, known)]
    assert [result.metric for result in scales] == [False, True]
    sigmas = [np.trace(result.pose.covariance[:3, :3]) ** 0.5 for result in scales]
    assert sigmas[0] > 3 * sigmas[1]


def test_without_odometry_rotation_and_direction_are_measured_and_the_distance_is_free():
    rng, squares, then = np.random.default_rng(0), [], keypoints(0.0)
    for _ in range(8):
        x, z, turn = rng.uniform(-1, 1, 3) * [1.5, 1.5, 6.0]
        truth = vehicle(0.0).inverse() @ vehicle(x, z, turn)
        result, inliers = verified(then, keypoints(x, z, turn), scaled=False)
        degrees = distance(result.pose, truth)[1]
        assert inliers >= MIN_INLIERS and degrees < 2.5
        squares.append(normalized(result, truth))
        camera = MOUNT.inverse() @ truth @ MOUNT
        guess = MOUNT.inverse() @ result.pose @ MOUNT
        assert np.linalg.norm(guess.translation) == pytest.approx(1.0)
        along = MOUNT.rotation @ guess.translation
        sigma = np.sqrt(along @ result.covariance[:3, :3] @ along)
        assert sigma >= np.sqrt(UNVERIFIED.covariance[0, 0])
        assert guess.translation @ camera.translation > 0.0
    assert np.mean(squares) < 12.0


def test_a_vehicle_at_the_same_spot_has_no_direction_and_the_covariance_says_so():
    result, _ = verified(keypoints(0.0), keypoints(0.0), scaled=False)
    sigmas = np.sqrt(np.linalg.eigvalsh(result.covariance[:3, :3]))
    assert distance(result.pose, Transform.identity())[1] < 0.5
    assert sigmas.min() > 0.1 and normalized(result, Transform.identity()) < 6.0


def test_an_image_without_texture_leaves_the_match_unverified():
    nothing = extract(View(np.full((240, 320, 3), 90, np.uint8), CAMERA), COUNT)
    (then,) = along(0.0)
    for images in ((then, nothing), (nothing, then)):
        result, inliers = verified(*images)
        assert result is UNVERIFIED and inliers == 0


def descriptors(place):
    """Random, similar only where the place is the same."""
    rng = np.random.default_rng(place)
    return rng.standard_normal(32), rng.standard_normal((256, 1, 1))


def two_laps(closer, views=True, seed=0, given=lambda stamp: True):
    """Along the wall, around behind it, and along it once more, a little to the side.

    given: the images with odometry.
    """
    side, z, turn = 0.3, 0.2, 2.0
    first = [(i, STEP * i, 0.0, 0.0, 0) for i in range(PLACES)]
    around = [  # a half circle back to the start
        (100 + k, STEP * PLACES / 2 * (1 + np.cos(a)), -STEP * PLACES / 2 * np.sin(a), 0.0, None)
        for k, a in enumerate(np.linspace(0.0, np.pi, 12))
    ]
    second = [(i, STEP * i + side, z, turn, seed) for i in range(PLACES)]
    closures, truth = [], {}
    for stamp, (place, x, depth, angle, shown) in enumerate([*first, *around, *second], 1):
        pose = vehicle(x - 6.0, depth, angle)
        seen = view(x - 6.0, depth, angle, shown) if views and shown is not None else None
        truth[stamp * SECOND] = pose
        odometry = Reading(pose, 0.0, 0) if given(stamp) else None
        closures += closer.add(stamp * SECOND, odometry, *descriptors(place), seen)
    return closures, truth


def test_a_loop_closure_has_a_measured_pose_and_only_similar_images_are_matched(
    monkeypatch, short_drive
):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return verify_loop(*arguments)

    monkeypatch.setattr(loop_closure, "verify_loop", counted)
    closures, truth = two_laps(LoopCloser(CONFIG))
    assert len(closures) >= 2 and len(calls) <= len(closures) + 2
    for closure in closures:
        true = truth[closure.keyframe_stamp_ns].inverse() @ truth[closure.stamp_ns]
        result = closure.keyframe_from_base
        assert distance(result.pose, true)[0] < 0.1 and closure.inliers >= MIN_INLIERS
        assert normalized(result, true) < 25.0
        assert distance(result.pose, Transform.identity())[0] > 0.2


@pytest.mark.parametrize(
    "given", [lambda stamp: False, lambda stamp: stamp > PLACES + 6], ids=["none", "later"]
)
def test_without_odometry_then_a_loop_closure_has_the_rotation_and_the_direction(
    short_drive, given
):
    closures, truth = two_laps(LoopCloser(CONFIG), given=given)
    squares = []
    for closure in closures:
        true = truth[closure.keyframe_stamp_ns].inverse() @ truth[closure.stamp_ns]
        result = closure.keyframe_from_base
        assert not closure.metric and closure.inliers >= MIN_INLIERS
        assert distance(result.pose, true)[1] < 2.0
        assert np.trace(result.covariance[:3, :3]) >= UNSCALED_SIGMA**2
        squares.append(normalized(result, true))
    assert len(closures) >= 2 and np.mean(squares) < 12.0


def test_keyframes_of_known_depths_measure_in_metres_where_odometry_is_lost_later(short_drive):
    closures, truth = two_laps(LoopCloser(CONFIG), given=lambda stamp: stamp <= PLACES + 6)
    assert len(closures) >= 2
    for closure in closures:
        true = truth[closure.keyframe_stamp_ns].inverse() @ truth[closure.stamp_ns]
        assert closure.metric and distance(closure.keyframe_from_base.pose, true)[0] < 0.1


def test_only_a_match_of_many_inliers_is_accepted_by_itself(monkeypatch, short_drive):
    assert two_laps(LoopCloser(CONFIG, consistent_keyframes=1000))[0]
    monkeypatch.setattr(loop_closure, "SURE_INLIERS", 10_000)
    assert not two_laps(LoopCloser(CONFIG, consistent_keyframes=1000))[0]


@pytest.mark.parametrize("odometry", [True, False])
def test_a_loop_whose_keypoints_are_of_another_place_is_rejected_however_similar(
    short_drive, odometry
):
    closures, _ = two_laps(LoopCloser(CONFIG), seed=1, given=lambda stamp: odometry)
    assert closures == []


@pytest.mark.parametrize(("views", "count"), [(False, COUNT), (True, 0)])
def test_without_images_or_keypoints_loop_closures_are_unverified(short_drive, views, count):
    closures, _ = two_laps(LoopCloser(replace(CONFIG, keypoints=count)), views)
    assert len(closures) >= 2
    for closure in closures:
        assert closure.inliers == 0
        assert closure.keyframe_from_base.pose == Transform.identity()
        assert np.trace(closure.keyframe_from_base.covariance[:3, :3]) > 3.0


def test_keypoints_are_released_with_their_keyframes(monkeypatch):
    made = []

    def counted(view, count):
        result = extract(view, count)
        made.append(weakref.ref(result))
        return result

    monkeypatch.setattr(keyframe_depths, "extract", counted)
    monkeypatch.setattr(loop_closure, "MAX_KEYFRAMES", 16)
    config = LoopClosureConfig(keyframe_distance=1.0, keypoints=COUNT)
    closer, shown = LoopCloser(config), view(0.0)
    for i in range(80):
        pose = Transform.from_xyz_rpy([i, 0.0, 0.0, 0.0, 0.0, 0.0])
        closer.add(i * SECOND, Reading(pose, 0.0, 0), *descriptors(i), shown)
        kept = sum(one() is not None for one in made)
        assert len(closer) <= kept <= len(closer) + REACH and len(closer) <= 16
    assert len(made) > 32  # thinned twice at least


def test_a_keypoint_of_a_keyframe_takes_144_bytes():
    result = keypoints(0.0)
    arrays = [value for value in vars(result).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 144 * len(result)


def test_an_error_of_the_camera_moves_the_vehicle_as_its_covariance_says():
    """Against differences of the pose itself; the two mounts differ."""
    then, now = along(0.0, STEP)
    mount = Transform.from_xyz_rpy([-0.4, 0.6, 1.5, -1.4, 0.1, -2.9])
    now = replace(now, camera=replace(now.camera, base_from_camera=mount))
    pose, size = Transform.from_xyz_rpy([0.4, -0.1, 0.9, 0.1, 0.3, -0.2]), 1e-6

    def base(then_from_now):
        return pose_of_base(PoseWithCovariance(then_from_now, np.eye(6)), then, now)

    moved = [base(retract(pose, step)).pose for step in size * np.eye(6)]
    jacobian = np.stack([offset(after, base(pose).pose) for after in moved], 1) / size
    assert np.allclose(base(pose).covariance, jacobian @ jacobian.T, atol=1e-4)
