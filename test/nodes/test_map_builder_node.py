# SPDX-License-Identifier: Apache-2.0
"""The map builder node in its own process, and the localizer's core on what it built."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo
from support.data import save_tiny_model, texture
from support.maps import START_S, base_pose
from support.messages import image_message, values
from support.node_process import RELIABLE, NodeProcess, node_process
from support.ros import Client

from disam_ros.config import LocalizerConfig
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.conversions import transform_to_pose

NODE = "/map_builder"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    save_tiny_model(folder)
    return folder


def options(model, output, **changes):
    return {
        "model": str(model),
        "output": str(output),
        "base_from_camera": [1.0, 0.0, 1.5, -1.5707963, 0.0, -1.5707963],
        "builder.domain": "day",
        "builder.batch_size": 2,
        **RELIABLE,
        **changes,
    }


class Drive(Client):
    """Publishes images half-way between poses; each has been handled when the next is sent."""

    def __init__(self) -> None:
        super().__init__(NODE)

    def camera_info(self) -> None:
        info = CameraInfo(width=64, height=48)
        info.k = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
        self.deliver("camera_info", info)

    def pose(self, second: int, kind: type = PoseStamped, topic: str = "pose") -> None:
        message = kind()
        message.header.frame_id = "town"
        message.header.stamp.sec = START_S + second
        if kind is Odometry:
            message.pose.pose = transform_to_pose(base_pose(second))
        else:
            message.pose = transform_to_pose(base_pose(second))
        self.deliver(topic, message)

    def image(self, second: int, half: bool = True) -> None:
        nanosecond = 500_000_000 if half else 0
        self.deliver("image", image_message(texture(second), second, nanosecond))


def test_images_become_a_map_at_the_poses_between_which_they_were_taken(model, tmp_path):
    output = tmp_path / "map"
    parameters = options(model, output, max_pose_gap=1.5)
    with (
        node_process("map_builder.node", tmp_path / "log", parameters, fresh=True) as process,
        Drive() as drive,
    ):
        before = drive.now()
        drive.camera_info()
        assert "no image with a pose came yet" in drive.trigger("finish").message
        drive.pose(0)
        for second in range(4):
            drive.image(second)
            drive.pose(second + 1)
        drive.image(4, half=False)  # at the very stamp of a pose
        drive.image(1)  # an old one: its stamp goes backwards
        drive.pose(7)
        drive.image(5)  # the poses around it are three seconds apart
        drive.pose(8)
        drive.problem("stamps of camera", before)
        assert drive.facts()["poses received"] == "7"
        answer = drive.trigger("finish")
        assert answer.success
        assert answer.message == f"map complete: {output}, 5 images"
        assert drive.trigger("finish").message == answer.message
        assert process.stop() == 0
    place_map = PlaceMap(output)
    assert place_map.header.map_frame == "town"
    camera = place_map.header.cameras["front"]
    assert (camera.width, camera.fx) == (64, 50.0)
    localizer = Localizer.open(output, model, LocalizerConfig(device="cpu"))
    found = localizer.localize(texture(2), camera="front")
    base = found.map_from_camera @ camera.base_from_camera.inverse()
    assert np.allclose(base.translation, [5.0, 1.0, 0.0], atol=5e-3)


def test_what_was_built_survives_the_end_of_the_node_and_is_resumed(model, tmp_path):
    output = tmp_path / "map"
    parameters = options(model, output, pose_source="odom", max_pose_gap=1.5)
    for part, expected in ((0, "3"), (10, "6")):
        with (
            node_process("map_builder.node", tmp_path / f"log{part}", parameters) as process,
            Drive() as drive,
        ):
            drive.camera_info()
            for second in range(part, part + 3):
                drive.pose(second, Odometry, "odom")
                drive.image(second)
            drive.pose(part + 3, Odometry, "odom")
            drive.diagnosis(
                lambda s, n=expected: values(s).get("images in map") == n, f"{expected} images"
            )
            if part == 0:
                assert process.stop() == 0
                assert "3 images are safe" in process.log
                assert "NOT yet a map" in process.log
                assert not output.exists()
            else:
                assert "resuming an interrupted build of 3 images" in process.log
                assert drive.trigger("finish").success
    assert len(PlaceMap(output)) == 6


def test_poses_that_cannot_be_used_are_reported(model, tmp_path):
    parameters = options(model, tmp_path / "map")
    with node_process("map_builder.node", tmp_path / "log", parameters), Drive() as drive:
        before, message = drive.now(), PoseStamped()
        message.header.stamp.sec = START_S
        drive.publish("pose", message)
        drive.problem("its frame is ''", before)
        message.header.frame_id = "town"
        message.pose.position.x = float("nan")
        drive.publish("pose", message)
        drive.problem("expected finite metres", before)
        message.pose.position.x = 0.0
        drive.deliver("pose", message)
        drive.publish("pose", message)
        drive.problem("not newer than the last", before)


def test_images_that_wait_in_vain_for_poses_are_reported(model, tmp_path):
    parameters = options(model, tmp_path / "map")
    with node_process("map_builder.node", tmp_path / "log", parameters), Drive() as drive:
        before = drive.now()
        for second in range(20):  # 16 may wait
            drive.image(100 + second)
        drive.problem("images wait in vain", before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": ""}, "'output' is empty"),
        ({"model": "/nowhere"}, "not a model directory"),
        ({"base_from_camera": [1.0, 2.0]}, "6 numbers, got 2"),
    ],
)
def test_wrong_parameters_end_the_node_with_a_clear_message(model, tmp_path, changes, words):
    parameters = options(model, tmp_path / "map") | changes
    process = NodeProcess("map_builder.node", tmp_path / "log", parameters)
    assert process.wait() == 1
    assert words in process.log
    assert "Traceback" not in process.log
