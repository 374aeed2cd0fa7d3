# SPDX-License-Identifier: Apache-2.0
"""Geometric verification of single images and within a sequence."""

import time
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.data import DESCRIPTOR, save_tiny_model
from support.localize import process
from support.scene import pose, render, write_scene

from disam_ros.camera import Camera
from disam_ros.config import (
    DomainConfig,
    LocalizerConfig,
    MapBuilderConfig,
    SequenceConfig,
    VerifyConfig,
)
from disam_ros.datasets.sources import open_dataset
from disam_ros.evaluation.answers import localize_all
from disam_ros.geometry import PoseWithCovariance, Transform, distance, offset
from disam_ros.localization import pipeline, verification
from disam_ros.localization.calibration import DEFAULT
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.verification import (
    MANY,
    STRONG,
    Verification,
    fuse_verified,
    place_ratio,
    with_inliers,
)
from disam_ros.mapping.builder import build_map
from disam_ros.models.similarity import TEMPERATURE

ROUTE = [pose(x) for x in np.arange(-6.0, 7.0, 2.0)]
QUERY = pose(0.6, -0.1, 0.7, 4.0)
SECOND = 10**9
SPREAD = np.diag([0.3, 0.3, 0.1, 0.02, 0.02, 0.04]) ** 2


@pytest.fixture(autouse=True)
def _images_of_the_route_are_different_places(monkeypatch):
    monkeypatch.setattr(verification, "PLACE_RADIUS", 3.0)


def localizer(root, camera=None):
    """Of a map of the scene with points; camera: as the map knows it, None: as it is."""
    model = save_tiny_model(root / "model")
    source = open_dataset(write_scene(root / "data", ROUTE, depth=True).directory)
    if camera is not None:
        source = replace(source, info=replace(source.info, cameras={"front": camera}))
    builder = MapBuilderConfig(keyframe_distance=0.0, keypoints=400, descriptor=DESCRIPTOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "PLACE_RADIUS", 3.0)
        place_map = build_map(source, model, root / "map", builder, show_progress=False)
    return configured(model, place_map)


def configured(model, place_map):
    config = LocalizerConfig(
        device="cpu",
        domain=DomainConfig(override="day"),
        sequence=SequenceConfig(enabled=True),
        verify=VerifyConfig(when="always"),
    )
    return Localizer(model, place_map, config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return localizer(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def opened(whole):
    """A localizer of the map of the scene, to be configured by a test."""
    return configured(whole.model, whole.map)


def tracked(opened, image, verify):
    """The answer to one image."""
    pipeline = Pipeline(opened, filter_model=FilterModel(radius=1.5), verify=verify)
    return process(pipeline, Frame(image, "front", SECOND))


def test_verification_puts_the_vehicle_between_the_images_of_the_map(opened):
    image = render(QUERY)[0]
    opened.calibration = replace(DEFAULT, horizontal=1.0, vertical=1.0, tilt=5.0, yaw=5.0)
    alone, seen = tracked(opened, image, False), tracked(opened, image, True)
    assert seen.inliers > 40 and alone.inliers == 0
    assert distance(seen.map_from_base, QUERY)[0] < 0.1 < distance(alone.map_from_base, QUERY)[0]
    assert distance(seen.map_from_base, QUERY)[1] < 0.5
    assert np.trace(seen.covariance) < 0.1 * np.trace(alone.covariance)


def test_the_node_tells_how_many_keypoints_verified_a_pose(opened):
    answer_status = pytest.importorskip("disam_ros.nodes.localizer.publishers.answer_status")
    image = render(QUERY)[0]
    for verify in (False, True):
        answer = tracked(opened, image, verify)
        values = {pair.key: pair.value for pair in answer_status.localized(answer, 1.0).values}
        expected = f"{answer.inliers} keypoints" if verify else None
        assert values.get("verified") == expected


def single(opened, image, verify):
    """The answer to an image alone."""
    alone = replace(opened.config, sequence=SequenceConfig(enabled=False))
    return process(Pipeline(opened, alone, verify=verify), Frame(image, "front", SECOND))


def test_a_single_image_is_placed_between_the_images_of_the_map(opened):
    image = render(QUERY)[0]
    opened.calibration = replace(DEFAULT, horizontal=1.0, vertical=1.0, tilt=5.0, yaw=5.0)
    alone, seen = single(opened, image, False), single(opened, image, True)
    assert not seen.tracked and seen.inliers > 40 and alone.inliers == 0
    assert distance(seen.map_from_base, QUERY)[0] < 0.1 < distance(alone.map_from_base, QUERY)[0]
    assert np.trace(seen.covariance) < 0.1 * np.trace(alone.covariance)
    assert {"verify", "fine"} <= set(seen.timings_ms) and "verify" not in alone.timings_ms


def test_a_single_image_is_verified_unless_its_own_probability_is_sure(opened, monkeypatch):
    image = render(ROUTE[3])[0]
    opened.config.verify.when = "unsure"
    probability = single(opened, image, False).probability
    for sure, stages in ((probability - 1e-6, set()), (probability + 1e-6, {"verify"})):
        monkeypatch.setattr(verification, "SURE", sure)
        assert {"verify"} & set(single(opened, image, True).timings_ms) == stages


def test_keypoints_that_agree_make_a_single_place_likelier_and_others_leave_it(opened):
    image = render(ROUTE[3])[0]
    opened.calibration = replace(DEFAULT, lead_intercept=-10.0 - DEFAULT.lead_slope)  # unknown
    seen, alone = (single(opened, image, verify) for verify in (True, False))
    assert seen.probability > alone.probability
    strange = render(QUERY, seed=7)[0]  # another street
    assert single(opened, strange, True).probability == pytest.approx(
        single(opened, strange, False).probability
    )


def test_only_the_map_images_of_a_place_are_evidence_of_it(opened):
    candidates = single(opened, render(QUERY)[0], False).candidates
    near, far = 0, int(np.argmax(np.abs(candidates.positions[:, 0] - candidates.positions[0, 0])))
    verified = [Verification(int(candidates.rows[k]), 100, 50) for k in (near, far)]
    apart = np.linalg.norm(candidates.positions[far] - candidates.positions[near])
    for radius, expected in ((0.5 * apart, 2.0), (2.0 * apart, 5.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verification, "PLACE_RADIUS", radius)
            assert place_ratio(candidates, verified, np.array([2.0, 5.0])) == expected
    assert place_ratio(candidates, [], np.zeros(0)) == 0.0


def test_inliers_order_candidates_that_look_alike_and_those_that_were_compared(opened):
    image = render(QUERY)[0]
    candidates = single(opened, image, False).candidates
    rows, fine = candidates.rows.tolist(), candidates.fine.copy()
    fine[-1] = fine[0] - 0.05
    alike = replace(candidates, fine=fine)
    ranked = with_inliers(alike, [Verification(rows[-1], 90, 60, weight=3.0)])
    assert ranked.rows.tolist() == [rows[-1], *rows[:-1]]
    assert ranked[0].keypoint_score == pytest.approx(3.0 * TEMPERATURE)
    assert with_inliers(alike, []) is alike


def test_answers_do_not_depend_on_the_machines_speed(opened, monkeypatch):
    """A clock of hours between two readings, as of a machine that is too slow for one image."""
    image = render(QUERY)[0]
    opened.calibration = replace(DEFAULT, horizontal=1.0, vertical=1.0, tilt=5.0, yaw=5.0)
    ticks = count(0.0, 3600.0)
    for sequence in (True, False):
        opened.config.sequence.enabled = sequence
        fast = process(Pipeline(opened), Frame(image, "front", SECOND))
        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda: next(ticks))
            slow = process(Pipeline(opened), Frame(image, "front", SECOND))
        assert slow.inliers == fast.inliers > 40
        assert slow.map_from_base == fast.map_from_base
        assert slow.timings_ms["verify"] > 1e6


def test_offline_answers_are_verified(opened, tmp_path):
    opened.calibration = replace(DEFAULT, horizontal=1.0, vertical=1.0, tilt=5.0, yaw=5.0)
    source = open_dataset(write_scene(tmp_path / "drive", [QUERY], depth=True).directory)
    (result,) = localize_all(opened, source)
    assert "verify" in result.timings_ms
    assert distance(result.pose, result.record.map_from_camera)[0] < 0.1


def test_without_intrinsics_verification_still_chooses_the_map_image(tmp_path, monkeypatch):
    for module, name in ((pipeline, "MAX_CANDIDATES"), (verification, "FIRST_CANDIDATES")):
        monkeypatch.setattr(module, name, len(ROUTE))  # whatever an untrained model finds
    opened = localizer(tmp_path, Camera(320, 240, 0.0, 0.0, 0.0, 0.0))
    seen = tracked(opened, render(pose(0.4, -0.1, 0.7))[0], True)
    assert seen.inliers == 0 and seen.record.id == 3  # at x = 0
    assert np.allclose(seen.map_from_base.translation, ROUTE[3].translation, atol=2.0)


def test_a_verified_pose_that_contradicts_the_sequence_is_not_used():
    place = PoseWithCovariance(Transform.identity(), SPREAD)
    covariance = np.diag([0.05] * 3 + [0.01] * 3) ** 2
    far = Verification(0, 90, 80, PoseWithCovariance(pose(3.0), covariance))
    near = Verification(1, 60, 30, PoseWithCovariance(pose(0.2), covariance))
    assert fuse_verified(place, Transform.identity(), [far])[1] == 0
    both, inliers = fuse_verified(place, Transform.identity(), [far, near])
    assert inliers == 30 and 0.1 < both.pose.translation[0] < 0.2


def test_many_keypoints_decide_where_at_the_place_the_vehicle_is():
    place, identity = PoseWithCovariance(Transform.identity(), SPREAD), Transform.identity()
    covariance = np.diag([0.05] * 3 + [0.01] * 3) ** 2

    def solved(metres, metric, weight=STRONG):
        metric_pose = PoseWithCovariance(pose(metres), covariance)
        return Verification(0, 90, 80, metric_pose, metric=metric, weight=weight)

    assert fuse_verified(place, identity, [solved(2.5, MANY)])[0].pose == pose(2.5)
    for other in (solved(2.5, MANY - 1), solved(3.5, MANY), solved(2.5, MANY, STRONG - 0.1)):
        assert fuse_verified(place, identity, [other]) == (place, 0)


def test_only_strong_inliers_move_the_vehicle_to_another_stretch_of_its_place(opened, monkeypatch):
    image = render(QUERY)[0]
    before = process(Pipeline(opened, verify=False), Frame(image, "front", SECOND)).map_from_base
    gaps = [np.linalg.norm(other.translation - before.translation) for other in ROUTE]
    aside = int(np.argsort(gaps)[2])  # of the same place, and no end of the vehicle's stretch

    def gap(weight):
        item = Verification(aside, 100, 0, weight=weight)
        monkeypatch.setattr(verification.Verifier, "verify", lambda *_: [item])
        answer = process(Pipeline(opened), Frame(image, "front", SECOND))
        return np.linalg.norm(answer.map_from_base.translation - ROUTE[aside].translation)

    assert gap(0.0) == gap(STRONG - 0.01) > gap(5 * STRONG)


def test_what_is_fused_of_two_estimates_is_as_sure_as_both_say():
    rng = np.random.default_rng(0)
    true = Transform.from_xyz_rpy([5.0, -3.0, 1.0, 0.1, -0.2, 2.5])
    root = rng.standard_normal((6, 6)) * 0.02
    other = root @ root.T + 1e-5 * np.eye(6)
    errors, gaps = [], []
    for _ in range(600):
        a, b = (disturbed(true, covariance, rng) for covariance in (SPREAD, other))
        fused, gap = PoseWithCovariance(a, SPREAD).fuse(PoseWithCovariance(b, other))
        error, covariance = offset(true, fused.pose), fused.covariance
        errors.append(error @ np.linalg.solve(covariance, error) / 6)
        gaps.append(gap / 6)
    assert np.mean(errors) == pytest.approx(1.0, abs=0.1)
    assert np.mean(gaps) == pytest.approx(1.0, abs=0.1)
    expected = np.linalg.inv(np.linalg.inv(SPREAD) + np.linalg.inv(other))
    assert np.allclose(covariance, expected, atol=1e-8)


def disturbed(true, covariance, rng):
    """A pose whose error has that covariance."""
    error = rng.multivariate_normal(np.zeros(6), covariance)
    turn = Rotation.from_rotvec(-error[3:]) * Rotation.from_quat(true.quaternion)
    return Transform(true.translation - error[:3], turn.as_quat())
