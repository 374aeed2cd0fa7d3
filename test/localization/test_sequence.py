# SPDX-License-Identifier: Apache-2.0
"""Answers that follow a sequence, on a small map."""

from dataclasses import replace

import numpy as np
import pytest
from support.data import texture

from disam_ros.camera import Camera
from disam_ros.config import DomainConfig, FilterConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ModelError
from disam_ros.evaluation.answers import localize_all
from disam_ros.geometry import Transform, distance
from disam_ros.localization.calibrate import calibrate
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.odometry import OdometryTrack
from disam_ros.localization.tracker import Tracker, _of_mapping_base
from disam_ros.mapping.builder import build_map

SECOND = 1_000_000_000


@pytest.fixture
def localizer(dataset, model, tmp_path, builder_config):
    source = open_dataset(dataset.directory)
    place_map = build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    config = LocalizerConfig(
        device="cpu",
        domain=DomainConfig(override="day"),
        sequence=FilterConfig(enabled=True, radius=0.5, least_probability=0.5),
    )
    return Localizer(model, place_map, config)


def poses_of(dataset):
    mount = dataset.info.cameras["front"].base_from_camera.inverse()
    return [record.map_from_camera @ mount for record in dataset.records]


def test_a_sequence_along_the_map_is_followed_and_grows_surer(localizer, dataset):
    tracker, poses = Tracker(localizer), poses_of(dataset)
    sure = []
    for index, pose in enumerate(poses):
        found = localizer.localize(texture(index))
        found = tracker.follow(found, (index + 1) * SECOND // 10, poses[0].inverse() @ pose)
        sure.append(found.estimate.probability)
    assert found.known and found.record.id == len(poses) - 1
    assert max(sure[-3:]) > sure[0]
    gap = found.estimate.map_from_base.translation - poses[-1].translation
    assert np.linalg.norm(gap) < 1.0


def test_an_image_without_stamp_or_long_after_the_last_stands_alone(localizer):
    tracker = Tracker(localizer)
    found = localizer.localize(texture(3))
    alone = tracker.follow(found, None).estimate.probability
    for stamp in (5 * SECOND, 50 * SECOND, 40 * SECOND, None):
        assert tracker.follow(found, stamp).estimate.probability == pytest.approx(alone)


def test_standing_without_odometry_makes_it_no_surer(localizer):
    tracker, found = Tracker(localizer), localizer.localize(texture(3))
    first = tracker.follow(found, SECOND).estimate.probability
    for step in range(1, 10):
        again = tracker.follow(found, SECOND + step * SECOND // 10).estimate.probability
        assert again <= first + 1e-6
    other = localizer.localize(texture(4))
    assert tracker.follow(other, 2 * SECOND).estimate.probability != pytest.approx(again)


def test_a_covariance_of_an_estimate_is_positive_definite(localizer):
    estimate = Tracker(localizer).follow(localizer.localize(texture(2)), SECOND).estimate
    assert np.linalg.eigvalsh(estimate.covariance).min() > 0


def test_odometry_of_another_mount_moves_the_camera_alike():
    mapping = Transform.from_xyz_rpy([0.8, 0.0, 1.5, -1.57, 0.0, -1.57])
    own = Transform.from_xyz_rpy([-0.4, 0.3, 2.0, -1.5, 0.1, -1.3])
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0, (), own)
    before = Transform.from_xyz_rpy([5.0, 1.0, 0.0, 0.0, 0.0, 0.3])
    after = Transform.from_xyz_rpy([5.5, 1.2, 0.1, 0.02, 0.0, 1.1])
    told = [_of_mapping_base(pose, camera, mapping) for pose in (before, after)]
    seen = [pose @ mapping for pose in told]
    true = [pose @ own for pose in (before, after)]
    gap = distance(seen[0].inverse() @ seen[1], true[0].inverse() @ true[1])
    assert gap == pytest.approx((0, 0), abs=1e-5)
    unknown = replace(camera, base_from_camera=Transform.identity())
    assert _of_mapping_base(before, unknown, mapping) == before
    assert _of_mapping_base(None, camera, mapping) is None


def test_offline_answers_follow_the_sequence_where_it_is_configured(localizer, dataset):
    source = open_dataset(dataset.directory)
    stamps = np.array([record.stamp_ns for record in dataset.records])
    source = replace(source, odometry=(stamps, poses_of(dataset)))
    answers = list(localize_all(localizer, source, believe_domains=True))
    tracker, track = Tracker(localizer), OdometryTrack.of(*source.odometry, SECOND)
    for answer, item in zip(answers, source.images, strict=True):
        record = item.record
        found = localizer.localize(item.load(), record.stamp_ns, domain=record.domain)
        at = track.at(record.stamp_ns)
        found = tracker.follow(found, record.stamp_ns, at[0])
        assert answer.score == pytest.approx(found.estimate.probability)
        assert answer.best.id == found.estimate.record.id
    truth = dataset.records[-1].map_from_camera
    assert np.linalg.norm(answers[-1].pose.translation - truth.translation) < 1.0


def test_a_calibration_is_learned_from_drives_and_refused_without_poses(localizer, dataset):
    source = open_dataset(dataset.directory)
    stripped = [
        replace(item, record=replace(item.record, map_from_camera=None)) for item in source.images
    ]
    with pytest.raises(ModelError, match="true pose"):
        calibrate(localizer, [replace(source, images=stripped)], show_progress=False)


def test_odometry_is_interpolated_and_begins_anew_when_stamps_go_back():
    track = OdometryTrack(SECOND)
    for second in range(3):
        track.move(second * SECOND, Transform.from_xyz_rpy([2.0 * second, 0, 0, 0, 0, 0]))
    pose, travelled = track.at(3 * SECOND // 2)
    assert (pose.translation[0], travelled) == pytest.approx((3.0, 3.0))
    assert track.at(3 * SECOND)[0].translation[0] == 4.0  # the newest, if it is recent
    assert track.at(3 * SECOND + 1) is None and track.at(-1) is None
    track.move(0, Transform.identity())
    assert track.restarts == 1 and track.at(2 * SECOND) is None
