# SPDX-License-Identifier: Apache-2.0
"""The map builder node in its own process, and the localizer's core on what it built."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image
from support.ros import (
    START_S,
    Client,
    NodeProcess,
    base_pose,
    image_message,
    node_process,
    save_tiny_model,
    texture,
    values,
)

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


@pytest.fixture
def client():
    client = Client()
    yield client
    client.close()


def options(model, output, **changes):
    return {
        "model": str(model),
        "output": str(output),
        "base_from_camera": [1.0, 0.0, 1.5, -1.5707963, 0.0, -1.5707963],
        "builder.domain": "day",
        "builder.batch_size": 2,
        **changes,
    }


class Drive:
    """Publishes images half-way between poses."""

    def __init__(self, client: Client) -> None:
        self.client = client
        info = CameraInfo(width=64, height=48)
        info.k = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
        client.publish("camera_info", info)
        client.spin(0.2)

    def pose(self, second: int, kind: type = PoseStamped, topic: str = "pose") -> None:
        message = kind()
        message.header.frame_id = "town"
        message.header.stamp.sec = START_S + second
        if kind is Odometry:
            message.pose.pose = transform_to_pose(base_pose(second))
        else:
            message.pose = transform_to_pose(base_pose(second))
        self.client.publish(topic, message)
        self.client.spin(0.1)

    def image(self, second: int, half: bool = True) -> None:
        nanosecond = 500_000_000 if half else 0
        self.client.publish("image", image_message(texture(second), second, nanosecond))
        self.client.spin(0.1)


def test_images_become_a_map_at_the_poses_between_which_they_were_taken(model, client, tmp_path):
    output = tmp_path / "map"
    parameters = options(model, output, max_pose_gap=1.5)
    with node_process("map_builder.node", tmp_path / "log", parameters) as process:
        drive = Drive(client)
        assert "no image with a pose came yet" in client.trigger(f"{NODE}/finish").message
        drive.pose(0)
        for second in range(4):
            drive.image(second)
            drive.pose(second + 1)
        drive.image(4, half=False)  # at the very stamp of a pose
        drive.image(1)  # an old one: its stamp goes backwards
        drive.pose(7)
        drive.image(5)  # the poses around it are three seconds apart
        drive.pose(8)
        told = values(client.diagnosis(lambda s: "stamps of camera" in s.message, "old stamp"))
        assert told["poses received"] == "7"
        answer = client.trigger(f"{NODE}/finish")
        assert answer.success
        assert answer.message == f"map complete: {output}, 5 images"
        assert client.trigger(f"{NODE}/finish").message == answer.message
        assert process.stop() == 0
    place_map = PlaceMap(output)
    assert place_map.header.map_frame == "town"
    camera = place_map.header.cameras["front"]
    assert (camera.width, camera.fx) == (64, 50.0)
    localizer = Localizer.open(output, model, LocalizerConfig(device="cpu"))
    found = localizer.localize(texture(2), camera="front")
    base = found.map_from_camera @ camera.base_from_camera.inverse()
    assert np.allclose(base.translation, [5.0, 1.0, 0.0], atol=1e-5)


def test_what_was_built_survives_the_end_of_the_node_and_is_resumed(model, client, tmp_path):
    output = tmp_path / "map"
    parameters = options(model, output, pose_source="odom", max_pose_gap=1.5)
    for part in (0, 10):
        with node_process("map_builder.node", tmp_path / f"log{part}", parameters) as process:
            drive = Drive(client)
            for second in range(part, part + 3):
                drive.pose(second, Odometry, "odom")
                drive.image(second)
            drive.pose(part + 3, Odometry, "odom")
            expected = 3 if part == 0 else 6
            client.diagnosis(
                lambda s, n=expected: values(s).get("images in map") == str(n), f"{expected} images"
            )
            if part == 0:
                assert process.stop() == 0
                assert "3 images are safe" in process.log
                assert "NOT yet a map" in process.log
                assert not output.exists()
                client.forget_publishers()
            else:
                assert "going on with the 3 images" in process.log
                assert client.trigger(f"{NODE}/finish").success
    assert len(PlaceMap(output)) == 6


def test_poses_that_cannot_be_used_are_told(model, client, tmp_path):
    parameters = options(model, tmp_path / "map")
    with node_process("map_builder.node", tmp_path / "log", parameters):
        message = PoseStamped()
        message.header.stamp.sec = START_S
        client.publish("pose", message)
        client.told("its frame is ''")
        message.header.frame_id = "town"
        message.pose.position.x = float("nan")
        client.publish("pose", message)
        client.told("expected finite metres")
        message.pose.position.x = 0.0
        client.publish("pose", message)
        client.publish("pose", message)
        client.told("not newer than the last")
        publisher = client.publisher(Image, "image")
        for second in range(40):
            publisher.publish(image_message(texture(0), 100 + second))
            client.spin(0.02)
        client.told("images wait in vain")


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
