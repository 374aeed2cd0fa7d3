# SPDX-License-Identifier: Apache-2.0
"""A consumer that is right is never reset: the demo's drives at night and in snow."""

import numpy as np
import pytest

from disam_ros.config import LocalizerConfig, SequenceConfig
from disam_ros.datasets.sources import open_images
from disam_ros.demo.drives import CONDITIONS, DATA, MODEL, make_map
from disam_ros.evaluation.drive import as_mapped
from disam_ros.geometry import PoseWithCovariance
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.slam.agreement import Motion, StampedPose
from disam_ros.slam.supervisor import Supervisor, is_confident

LIMITS = Motion(noise=0.1, max_speed=20.0)
CERTAIN = np.diag([0.25, 0.25, 0.25, 0.07, 0.07, 0.07])  # as AMCL claims
LEAST = 50  # confident answers of a drive


@pytest.fixture(scope="module")
def localizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map") / "map"
    make_map(folder)
    return Localizer.open(folder, MODEL, LocalizerConfig(sequence=SequenceConfig(enabled=True)))


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_consumer_that_is_right_is_never_reset(localizer, condition):
    supervisor, confident = Supervisor(True, LIMITS), 0
    header = localizer.map.header
    images = open_images(DATA / condition, header.map_frame, mapped=header.cameras)
    source, _ = as_mapped(localizer.map, images)
    mounts = {name: camera.base_from_camera for name, camera in source.info.cameras.items()}
    for record, localized in localize_drive(Pipeline(localizer), source):
        answer = localized and localized.answer
        if answer is None or not is_confident(answer):
            supervisor.unsure()
            continue
        confident += 1
        truth = record.map_from_camera @ mounts[record.camera].inverse()
        theirs = StampedPose(record.stamp_ns, PoseWithCovariance(truth, CERTAIN), None)
        now = StampedPose(record.stamp_ns, answer.pose, None)
        assert not supervisor.answered(now, theirs) and not supervisor.lost
    assert confident > LEAST
