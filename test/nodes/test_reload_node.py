# SPDX-License-Identifier: Apache-2.0
"""Another map or model while the localizer node goes on, over DDS."""

import threading

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from support.data import save_tiny_model
from support.maps import base_pose, beside, save_tiny_map
from support.node_process import SINGLE
from support.ros import DEADLINE, Client

from disam_ros.errors import MapError
from disam_ros.geometry import Transform
from disam_ros.mapping.life.assembly import Part, assemble
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.conversions import pose_to_transform

SHIFT = Transform.from_xyz_rpy([0.0, 500.0, 0.0, 0.0, 0.0, 0.0])


def shifted(index):
    return SHIFT @ base_pose(index)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Another model and its map, which lies elsewhere and has its own frame."""
    folder = tmp_path_factory.mktemp("others")
    other = save_tiny_model(folder / "model_other", seed=5)
    save_tiny_map(folder / "map_other", other, pose=shifted, frame="village")
    return {"map": str(folder / "map_other"), "model": str(folder / "model_other")}


def at(pose, expected, frame):
    assert pose.header.frame_id == frame
    assert beside(pose_to_transform(pose.pose), expected)


@pytest.fixture(scope="module")
def node(start_localizer):
    with start_localizer({"localizer.domain.override": "day", **SINGLE}) as robot:
        yield robot


@pytest.fixture
def robot(node, places):
    """The robot, with the first map."""
    name(node, places)
    assert node.client.trigger("reload").success
    return node


def name(robot, places):
    """Set map and model; they are not taken yet."""
    for kind, path in places.items():
        robot.set(kind, path)


def test_another_map_is_taken_between_two_images_and_a_faulty_one_leaves_the_old_one(
    robot, places, others
):
    at(robot.localize(3), base_pose(3), "town")
    name(robot, others)
    at(robot.localize(3), base_pose(3), "town")  # only named
    asked = robot.client.ask("reload")
    while not asked.done():
        robot.localize(2)  # answered by one or the other, never by none
    assert asked.result().success and "map_other" in asked.result().message
    at(robot.localize(4), shifted(4), "village")
    facts = robot.client.facts()
    assert facts["map frame"] == "village" and facts["inference errors"] == "0"
    robot.set("map", places["map"])
    before = robot.client.now()
    assert "was built with model" in robot.client.trigger("reload").message
    status = robot.client.problem("reload failed, all goes on as before", before)
    assert status.level == DiagnosticStatus.ERROR
    at(robot.localize(5), shifted(5), "village")
    name(robot, places)
    assert robot.client.trigger("reload").success
    robot.client.diagnosis(lambda s: "reload failed" not in s.message, "reloaded")
    at(robot.localize(1), base_pose(1), "town")


def test_a_new_revision_of_the_map_is_taken_while_the_old_one_stays_open(robot, places, tmp_path):
    at(robot.localize(3), base_pose(3), "town")
    old = PlaceMap(places["map"])
    assemble([Part(old, np.arange(len(old)), SHIFT)], tmp_path / "map2", {"operation": "align"})
    at(robot.localize(3), base_pose(3), "town")
    robot.set("map", str(tmp_path / "map2"))
    answer = robot.client.trigger("reload")
    assert answer.success and "map2" in answer.message
    at(robot.localize(3), shifted(3), "town")


def test_a_node_that_is_cleaned_up_while_it_reloads_survives(robot, others):
    robot.localize(1)
    name(robot, others)
    asked = []
    for label in ("deactivate", "cleanup"):
        asked += [robot.client.ask(service) for service in ("relocalize", "reload")]
        assert robot.client.transition(label)
    robot.client.until(lambda: all(answer.done() for answer in asked), "all answers")
    answer = robot.client.trigger("reload")
    assert not answer.success and "not configured" in answer.message
    assert robot.client.transition("configure")
    assert robot.client.transition("activate")
    robot.reconnect()
    at(robot.localize(4), shifted(4), "village")


class Gate:
    """Waits until it is opened; raises the error that it is given."""

    def __init__(self):
        self.open, self.error = threading.Event(), None

    def __call__(self):
        self.open.wait(DEADLINE)
        if self.error:
            raise self.error
        return "new"


def test_a_second_reload_is_refused_while_the_first_is_under_way():
    from rclpy.lifecycle import LifecycleNode

    from disam_ros.nodes.localizer.reload import Reload
    from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

    gate, adopted = Gate(), []
    with Client("/loader") as client:
        node = LifecycleNode("loader", context=client.node.context)
        client.add(node)
        Reload(node, Monitor("loader"), gate, lambda new: adopted.append(new) or "taken")
        asked = [client.ask("reload") for _ in range(2)]
        client.until(lambda: any(answer.done() for answer in asked), "the refusal")
        (refused,) = (answer for answer in asked if answer.done())
        assert "under way" in refused.result().message and not adopted
        gate.open.set()
        client.until(lambda: all(answer.done() for answer in asked), "the other answer")
        (taken,) = (answer for answer in asked if answer is not refused)
        assert taken.result().success and adopted == ["new"]
        gate.error = MapError("no map there")
        answer = client.trigger("reload")
        assert not answer.success and "no map there" in answer.message and adopted == ["new"]
        node.destroy_node()
