# SPDX-License-Identifier: Apache-2.0
"""Cameras that see nothing and odometry that cannot be true, while a sequence is tracked."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from support.data import texture
from support.node_process import RELIABLE
from support.ring import RingRobot

PARAMETERS = {"localizer.domain.override": "day", "localizer.min_probability": 0.3, **RELIABLE}


@pytest.fixture(scope="module")
def node(start_localizer, ring_places):
    with start_localizer({**ring_places, **PARAMETERS}, kind=RingRobot) as robot:
        yield robot


@pytest.fixture
def robot(node):
    """The robot, with a sequence that begins."""
    node.second += 60  # odometry of before is old
    return node


def test_a_blank_image_is_reported_and_the_sequence_goes_on_without_it(robot):
    before, count = robot.client.now(), int(robot.client.facts()["images blind"])
    for index in range(4):
        last = robot.drive(index)
    answer = robot.drive(4, np.full((48, 64, 3), 255, np.uint8))
    assert answer["outcome"] == "unreadable" and "white" in answer["reason"]
    status = robot.client.problem("covered, blinded or without light", before)
    assert status.level == DiagnosticStatus.WARN
    after = robot.drive(5)
    assert (after["outcome"], after["map image"]) == ("known", "5")
    assert float(after["probability"]) > 0.5 * float(last["probability"])
    assert int(robot.client.facts()["images blind"]) == count + 1


def test_the_same_pixels_are_reported_with_and_without_odometry(robot):
    before = robot.client.now()
    for index in range(3):
        robot.drive(index)
    frozen = [robot.drive(index, texture(2)) for index in range(3, 6)]
    assert all("is frozen" in answer["reason"] for answer in frozen)
    robot.client.problem("the same pixels, and odometry says that it moved", before)
    robot.second += 60
    answers = [robot.drive(8, odometry=False) for _ in range(8)]
    assert answers[-1]["image"] == "repeated: it is no evidence"
    robot.client.problem("repeats one image", before)
    assert "odometry stopped: nothing on 'odom'" in robot.process.log


def test_settings_of_the_sequence_change_while_it_is_tracked(robot):
    for index in (7, 8, 9):
        last = robot.drive(index)
    assert last["outcome"] == "known"
    robot.set("localizer.min_probability", 1.0)
    assert robot.drive(10)["outcome"] == "unknown"
    robot.set("localizer.sequence.enabled", False)
    assert "on map" not in robot.drive(11)
    robot.set("localizer.candidates", 5)
    assert len(robot.drive(0)["candidates"].split(",")) == 5
    for name, value in (("min_probability", 0.3), ("sequence.enabled", True), ("candidates", 3)):
        robot.set(f"localizer.{name}", value)
