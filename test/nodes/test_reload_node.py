# SPDX-License-Identifier: Apache-2.0
"""Another map or model while the localizer node goes on, over DDS."""

import threading

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import NavSatFix, NavSatStatus
from std_srvs.srv import Trigger
from support.ros import (
    Client,
    base_pose,
    image_message,
    node_process,
    save_tiny_map,
    save_tiny_model,
    texture,
    values,
)

from disam_ros.errors import MapError
from disam_ros.geometry import Transform, distance
from disam_ros.models.model import load_model
from disam_ros.nodes.conversions import pose_to_transform

NODE = "/localizer"
SHIFT = Transform.from_xyz_rpy([0.0, 500.0, 0.0, 0.0, 0.0, 0.0])


def shifted(index):
    return SHIFT @ base_pose(index)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two models, a map of each; the second map lies elsewhere and has its own frame."""
    folder = tmp_path_factory.mktemp("world")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"))
    other = save_tiny_model(folder / "model_other", seed=5)
    save_tiny_map(folder / "map_other", other, pose=shifted, frame="village")
    return folder


class Robot:
    def __init__(self, world, process, client):
        self.world, self.process, self.client, self.second = world, process, client, 0
        self.poses = client.collect(PoseStamped, f"{NODE}/pose")

    def localize(self, index):
        self.second += 1
        self.poses.clear()
        message = image_message(texture(index), self.second)
        self.client.ask("image", message, lambda: self.poses, "a pose")
        return self.poses[-1]

    def name(self, suffix=""):
        """Set map and model; they are not taken yet."""
        for kind in ("map", "model"):
            path = str(self.world / f"{kind}{suffix}")
            assert self.client.set_parameter(NODE, kind, path).successful

    def reload(self):
        return self.client.trigger(f"{NODE}/reload")

    def at(self, pose, expected, frame):
        assert pose.header.frame_id == frame
        assert distance(pose_to_transform(pose.pose), expected)[0] < 1e-6


@pytest.fixture
def robot(world):
    parameters = {
        "map": str(world / "map"),
        "model": str(world / "model"),
        "localizer.domain.override": "day",
    }
    client = Client()
    with node_process("localizer.node", world / "node.log", parameters) as process:
        yield Robot(world, process, client)
    client.close()


def test_another_map_is_taken_between_two_images_and_a_faulty_one_leaves_the_old_one(robot):
    robot.at(robot.localize(3), base_pose(3), "town")
    robot.name("_other")
    robot.at(robot.localize(3), base_pose(3), "town")  # only named
    asked = robot.client.request(Trigger, f"{NODE}/reload", Trigger.Request())
    while not asked.done():
        robot.localize(2)  # answered by one or the other, never by none
    assert asked.result().success and "map_other" in asked.result().message
    robot.at(robot.localize(4), shifted(4), "village")
    told = values(robot.client.diagnosis(lambda s: True, "anything"))
    assert told["map frame"] == "village" and told["inference errors"] == "0"
    for name, words in (("map_missing", "is not a map"), ("map", "was built with model")):
        path = str(robot.world / name)
        assert robot.client.set_parameter(NODE, "map", path).successful
        answer = robot.reload()
        assert not answer.success and words in answer.message
        told = robot.client.told("reload failed, all goes on as before")
        assert told.level == DiagnosticStatus.ERROR and words in told.message
        robot.at(robot.localize(5), shifted(5), "village")
    robot.name()
    assert robot.reload().success
    robot.client.diagnosis(lambda s: "reload failed" not in s.message, "reloaded")
    robot.at(robot.localize(1), base_pose(1), "town")
    assert "Traceback" not in robot.process.log


def test_a_node_that_is_cleaned_up_while_it_reloads_survives(robot):
    robot.localize(1)
    robot.name("_other")
    for label in ("deactivate", "cleanup"):
        for service in ("relocalize", "reload"):
            robot.client.request(Trigger, f"{NODE}/{service}", Trigger.Request())
        assert robot.client.transition(NODE, label)
    answer = robot.reload()
    assert not answer.success and "not configured" in answer.message
    assert robot.client.transition(NODE, "configure")
    assert robot.client.transition(NODE, "activate")
    robot.client.spin(0.5)
    robot.at(robot.localize(4), shifted(4), "village")
    assert robot.process.alive and "Traceback" not in robot.process.log


def test_fixes_on_another_map_take_it_and_fixes_nowhere_take_none(world, tmp_path):
    model = load_model(world / "model")
    here, there = tmp_path / "here", tmp_path / "there"
    save_tiny_map(here, model, place=(48.0, 9.0))
    save_tiny_map(there, model, place=(48.1, 9.0), pose=shifted, frame="village")
    parameters = {
        "map": str(here),
        "model": str(world / "model"),
        "areas": [str(here), str(there)],
        "localizer.domain.override": "day",
    }
    client = Client()

    def fix(latitude):
        status = NavSatStatus(status=NavSatStatus.STATUS_FIX)
        return NavSatFix(status=status, latitude=latitude, longitude=9.0)

    with node_process("localizer.node", world / "areas.log", parameters) as process:
        robot = Robot(world, process, client)
        robot.at(robot.localize(3), base_pose(3), "town")
        client.publisher(NavSatFix, "fix", reliable=False)
        client.spin(1.0)
        for _ in range(5):
            client.publish("fix", fix(60.0))
            client.spin(0.1)
        robot.at(robot.localize(3), base_pose(3), "town")
        village = 48.1 + 500.0 / 111_200.0  # its images lie 500 m north of its origin
        for _ in range(5):
            client.publish("fix", fix(village))
            client.spin(0.1)
        client.diagnosis(lambda s: values(s).get("map frame") == "village", "the other map")
        robot.at(robot.localize(4), shifted(4), "village")
        assert "Traceback" not in process.log
    client.close()


class Gate:
    """Opens when it is told to, and fails if it is told to."""

    def __init__(self):
        self.open, self.error = threading.Event(), None

    def __call__(self):
        self.open.wait(10.0)
        if self.error:
            raise self.error
        return "new"


def test_a_second_reload_is_refused_while_the_first_is_under_way():
    from rclpy.lifecycle import LifecycleNode

    from disam_ros.nodes.diagnostics import Monitor
    from disam_ros.nodes.localizer.reload import Reload

    client, gate, adopted = Client("asking"), Gate(), []
    node = LifecycleNode("loader", context=client.node.context)
    client.add(node)
    Reload(node, Monitor("loader"), gate, lambda new: adopted.append(new) or "taken")
    first = client.request(Trigger, "/loader/reload", Trigger.Request())
    client.spin(0.2)
    assert "under way" in client.trigger("/loader/reload").message
    assert not first.done()
    gate.open.set()
    client.until(first.done, "the first answer")
    assert first.result().success and adopted == ["new"]
    gate.error = MapError("no map there")
    answer = client.trigger("/loader/reload")
    assert not answer.success and "no map there" in answer.message and adopted == ["new"]
    node.destroy_node()
    client.close()
