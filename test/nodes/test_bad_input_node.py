# SPDX-License-Identifier: Apache-2.0
"""Cameras that see nothing and odometry that cannot be true, while a sequence is followed."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from support.ros import Client, node_process, save_tiny_map, save_tiny_model, texture
from test_slam_node import LAP, MAP_FROM_ODOM, NODE, Robot, ring

from disam_ros.geometry import Transform

SEQUENCE = {"enabled": True, "radius": 1.0, "least_probability": 0.3}


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"), LAP, pose=ring)
    parameters = {
        "map": str(folder / "map"),
        "model": str(folder / "model"),
        "localizer.domain.override": "day",
        **{f"localizer.sequence.{name}": value for name, value in SEQUENCE.items()},
    }
    client = Client()
    with node_process("localizer.node", folder / "node.log", parameters) as process:
        yield Robot(process, client)
    client.close()


def flat(level):
    return np.full((48, 64, 3), level, np.uint8)


@pytest.mark.parametrize(("level", "colour"), [(3, "black"), (255, "white"), (90, "one colour")])
def test_an_image_of_nothing_is_told_and_the_sequence_goes_on_without_it(robot, level, colour):
    for index in range(4):
        before = robot.drive(index)
    answer = robot.drive(4, flat(level))
    assert answer["outcome"] == "unreadable" and colour in answer["reason"]
    assert robot.client.told("covered, blinded or without light").level == DiagnosticStatus.WARN
    after = robot.drive(5)
    assert (after["outcome"], after["map image"]) == ("known", "5")
    assert float(after["probability"]) > 0.5 * float(before["probability"])
    assert int(robot.counts()["images blind"]) >= 1


def test_the_same_pixels_while_odometry_moves_are_a_frozen_camera(robot):
    for index in range(3):
        robot.drive(index)
    frozen = [robot.drive(index, texture(2)) for index in range(3, 6)]
    assert all("is frozen" in answer["reason"] for answer in frozen)
    robot.client.told("the same pixels, and odometry says that it moved")
    assert robot.drive(6)["map image"] == "6"


def test_the_same_pixels_without_odometry_are_told_and_are_no_evidence(robot):
    robot.second += 20  # odometry of before is old; the sequence begins anew
    answers = [robot.drive(8, odometry=None) for _ in range(8)]
    assert "image" not in answers[2]
    assert answers[-1]["image"] == "repeated: it is no evidence"
    assert float(answers[-1]["probability"]) < max(float(a["probability"]) for a in answers)
    robot.client.told("repeats one image")
    assert "odometry stopped: nothing on 'odom'" in robot.process.log


def test_odometry_that_jumps_is_told_and_the_place_found_all_the_same(robot):
    for index in range(4):
        robot.drive(index)
    far = Transform.from_xyz_rpy([900.0, 900.0, 0.0, 0.0, 0.0, 2.0]) @ MAP_FROM_ODOM.inverse()
    answers = [robot.drive(index, odometry=far @ ring(index)) for index in range(4, 8)]
    robot.client.until(lambda: "odometry jumped" in robot.process.log, "the jump in the log")
    assert [answer["map image"] for answer in answers] == ["4", "5", "6", "7"]
    assert int(robot.counts()["odometry faults"]) >= 1


def test_settings_of_the_sequence_change_while_it_is_followed(robot):
    setting = "localizer.sequence.least_probability"
    assert robot.drive(9)["outcome"] == "known"
    assert robot.client.set_parameter(NODE, setting, 1.0).successful
    assert robot.drive(10)["outcome"] == "unknown"
    assert robot.client.set_parameter(NODE, "localizer.sequence.enabled", False).successful
    assert "probability" not in robot.drive(11)
    for name, value in (("localizer.candidates", 5), ("localizer.fine_shift", 1)):
        assert robot.client.set_parameter(NODE, name, value).successful
    assert len(robot.drive(0)["candidates"].split(",")) == 5
