# SPDX-License-Identifier: Apache-2.0
"""Faults of the map builder's input: extrinsics, intrinsics, images, poses, parameters."""

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo
from support.data import save_tiny_model, texture
from support.maps import BASE_FROM_CAMERA, START_S, base_pose
from support.messages import image_message, values
from support.node_process import RELIABLE, NodeProcess, node_process
from support.ros import Client
from support.tf import tf2_ros
from support.vehicle import transform_message

from disam_ros.geometry import distance
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.conversions import transform_to_pose

pytestmark = pytest.mark.slow

TF_STAND_IN = f"import sys; sys.path.insert(0, {str(Path(tf2_ros.__file__).parent)!r})"
K = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
MOUNT = [1.0, 0.0, 1.5, -1.5707963, 0.0, -1.5707963]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    save_tiny_model(folder)
    return folder


def options(model, output, **changes):
    return {
        "model": model,
        "output": output,
        "builder.domain": "day",
        "builder.batch_size": 1,
        "builder.keypoints": 0,
        "max_pose_gap": 1.5,
        "camera_info_timeout": 0.0,
        **RELIABLE,
        **changes,
    }


class Survey(Client):
    """A vehicle that surveys: an image half-way between two poses, each second."""

    def __init__(self) -> None:
        super().__init__("/map_builder")
        self.second = 0

    def pose(self, frame="town", **position) -> None:
        message = PoseStamped(pose=transform_to_pose(base_pose(self.second)))
        message.header.frame_id, message.header.stamp.sec = frame, START_S + self.second
        for axis, value in position.items():
            setattr(message.pose.position, axis, value)
        self.deliver("pose", message)

    def image(self, frame="camera", **fields) -> None:
        message = image_message(texture(self.second), self.second, 500_000_000, frame)
        for name, value in fields.items():
            setattr(message, name, value)
        self.deliver("image", message)

    def drive(self, **fields) -> None:
        """A pose, an image and a pose."""
        self.pose()
        self.image(**fields)
        self.second += 1
        self.pose()
        self.second += 1

    def holds(self, count: int) -> None:
        self.diagnosis(
            lambda s: values(s).get("images in map") == str(count), f"{count} images in the map"
        )


def test_an_output_that_exists_is_refused_with_what_this_node_can_do(model, tmp_path):
    (tmp_path / "map").mkdir()
    (tmp_path / "map" / "mine").touch()
    p = NodeProcess("map_builder.node", tmp_path / "log", options(model, tmp_path / "map"))
    assert p.wait() == 1
    words = "exists: set the parameter output to another directory, or move it away"
    assert words in p.log and "--overwrite" not in p.log


def test_a_map_waits_for_tf_and_is_not_turned_without_it(model, tmp_path):
    parameters = options(model, tmp_path / "map")
    with (
        node_process(
            "map_builder.node", tmp_path / "log", parameters, fresh=True, before=TF_STAND_IN
        ) as process,
        Survey() as survey,
    ):
        before = survey.now()
        survey.drive()
        status = survey.problem("nothing is built: no TF base_link ← 'camera'", before)
        assert status.level == DiagnosticStatus.ERROR
        assert "set base_from_camera" in process.log
        assert not survey.trigger("finish").success
        assert not (tmp_path / "map.part").exists()
        survey.deliver(tf2_ros.TOPIC, transform_message("base_link", "camera", BASE_FROM_CAMERA))
        survey.drive()
        survey.holds(2)  # with the image that waited
        survey.diagnosis(lambda s: "nothing is built" not in s.message, "no problem")
        assert survey.trigger("finish").success
    camera = PlaceMap(tmp_path / "map").header.cameras["front"]
    metres, degrees = distance(camera.base_from_camera, BASE_FROM_CAMERA)
    assert metres < 5e-3 and degrees < 0.1


def test_what_cannot_be_used_is_refused_and_the_rest_becomes_a_map(model, tmp_path):
    parameters = options(
        model, tmp_path / "map", base_from_camera=MOUNT, camera_info_timeout=3600.0
    )
    with (
        node_process("map_builder.node", tmp_path / "log", parameters) as process,
        Survey() as survey,
    ):
        before = survey.now()
        survey.deliver("camera_info", CameraInfo(width=64, height=48, k=K, d=[0.1] * 3))
        survey.problem("/camera_info is not used", before)
        survey.deliver("camera_info", CameraInfo(width=64, height=48, k=K))
        survey.drive()
        survey.holds(1)
        before = survey.now()
        survey.drive(step=7)
        survey.problem("an image was left out", before)
        survey.deliver("camera_info", CameraInfo(width=64, height=48, k=K, d=[0.1] * 3))
        before = survey.now()
        for fields in ({"x": math.nan}, {"y": math.inf}, {"frame": "elsewhere"}):
            survey.pose(**fields)
        survey.problem("a pose was refused", before)
        survey.second += 1
        survey.drive()
        end = survey.trigger("finish").message
        assert end.endswith("2 images; left out (images undecodable: 1)")
        assert process.returncode is None
    place_map = PlaceMap(tmp_path / "map")
    assert len(place_map) == 2
    assert np.isfinite(place_map.poses).all()
