# SPDX-License-Identifier: Apache-2.0
"""Laws of sequence tracking, on a small map."""

from dataclasses import replace

import numpy as np
import pytest
from support.data import texture
from support.localize import candidates_of, describe, process

from disam_ros.camera import Camera
from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.evaluation.answers import localize_all
from disam_ros.geometry import Transform, distance, is_covariance
from disam_ros.localization.drive import OdometryReplay
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import Tracker

SECOND = 1_000_000_000
SMALL = FilterModel(radius=0.5)  # so that each image of the map is a place


@pytest.fixture
def localizer(model, place_map):
    domain = DomainConfig(override="day")
    return Localizer(
        model, place_map, LocalizerConfig(device="cpu", domain=domain, min_probability=0.5)
    )


@pytest.fixture
def pipeline(localizer):
    return Pipeline(localizer, filter_model=SMALL)


def poses_of(dataset):
    mount = dataset.info.cameras["front"].base_from_camera.inverse()
    return [record.map_from_camera @ mount for record in dataset.records]


def frame(index, stamp_ns):
    return Frame(texture(index), "front", stamp_ns)


def test_a_sequence_along_the_map_is_tracked_and_grows_surer(pipeline, dataset):
    poses, sure = poses_of(dataset), []
    for index, pose in enumerate(poses):
        odometry = Reading(poses[0].inverse() @ pose, float(index), 0)
        answer = process(pipeline, frame(index, (index + 1) * SECOND // 10), odometry)
        sure.append(answer.probability)
    assert answer.known and answer.record.id == len(poses) - 1
    assert max(sure[-3:]) > sure[0]
    assert np.linalg.norm(answer.map_from_base.translation - poses[-1].translation) < 1.0
    assert is_covariance(answer.covariance)


def test_an_image_without_stamp_or_long_after_the_last_stands_alone(pipeline):
    alone = process(pipeline, frame(3, None)).probability
    for stamp in (5 * SECOND, 50 * SECOND, 40 * SECOND, None):
        assert process(pipeline, frame(3, stamp)).probability == pytest.approx(alone)


def test_standing_without_odometry_makes_it_no_surer(pipeline):
    first = process(pipeline, frame(3, SECOND)).probability
    for step in range(1, 10):
        again = process(pipeline, frame(3, SECOND + step * SECOND // 10)).probability
        assert again <= first + 1e-6
    assert process(pipeline, frame(4, 2 * SECOND)).probability != pytest.approx(again)


def test_odometry_of_another_mount_moves_the_camera_equally(localizer):
    mapping = Transform.from_xyz_rpy([0.8, 0.0, 1.5, -1.57, 0.0, -1.57])
    own = Transform.from_xyz_rpy([-0.4, 0.3, 2.0, -1.5, 0.1, -1.3])
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0, (), own)
    mapped = replace(camera, base_from_camera=mapping)
    localizer.map.header = replace(localizer.map.header, cameras={"front": mapped})
    before = Transform.from_xyz_rpy([5.0, 1.0, 0.0, 0.0, 0.0, 0.3])
    after = Transform.from_xyz_rpy([5.5, 1.2, 0.1, 0.02, 0.0, 1.1])

    def moved(pose, lens):
        query = describe(localizer, texture(0), camera="front", lens=lens)
        candidates = candidates_of(localizer, query)
        step = Tracker(localizer).predict(query, None, localizer.config)
        track = step.update(candidates).track
        return track.of_mapping_base(Reading(pose, 0.0, 0), query).odom_from_base

    view = describe(localizer, texture(0), camera="front", lens=camera).frame.lens.base_from_camera
    seen = [moved(pose, camera) @ mapping for pose in (before, after)]
    true = [pose @ view for pose in (before, after)]
    gap = distance(seen[0].inverse() @ seen[1], true[0].inverse() @ true[1])
    assert gap == pytest.approx((0, 0), abs=1e-5)
    unknown = replace(camera, base_from_camera=Transform.identity())
    assert moved(before, unknown) == before


def test_offline_answers_are_of_the_sequence_where_it_is_configured(localizer, dataset):
    source = open_dataset(dataset.directory)
    stamps = np.array([record.stamp_ns for record in dataset.records])
    source = replace(source, odometry=(stamps, poses_of(dataset)))
    answers = list(localize_all(localizer, source, believe_domains=True))
    pipeline = Pipeline(localizer)
    odometry = OdometryReplay(pipeline, source)
    for answer, item in zip(answers, source.images, strict=True):
        stamp_ns = item.record.stamp_ns
        result = process(pipeline, Frame(item.load(), "front", stamp_ns), odometry.at(stamp_ns))
        assert answer.probability == pytest.approx(result.probability)
        assert answer.best.id == result.record.id
    truth = dataset.records[-1].map_from_camera
    assert np.linalg.norm(answers[-1].pose.translation - truth.translation) < 1.0
