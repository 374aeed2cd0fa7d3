# SPDX-License-Identifier: Apache-2.0
"""What the localizer node does for SLAM and localization stacks, over DDS."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from std_srvs.srv import Trigger
from support.ros import (
    START_S,
    Client,
    detailed,
    image_message,
    node_process,
    odometry_message,
    save_tiny_map,
    save_tiny_model,
    texture,
    values,
)

from disam_ros.geometry import Transform, distance
from disam_ros.localization.odometry import Reading
from disam_ros.nodes.conversions import pose_to_transform
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.localizer import map_odom
from disam_ros.slam.consumers import map_from_odom
from disam_ros.slam.loop_closure_message import MAP, NAME, OWN, from_values

NODE = "/localizer"
LAP = 12  # map images around a circle of 38 m
RADIUS = 6.0
MAP_FROM_ODOM = Transform.from_xyz_rpy([100.0, -50.0, 0.0, 0.0, 0.0, 1.0])
LOOPS = {
    "enabled": True,
    "keyframe_distance": 1.0,
    "min_path": 15.0,
    "score_threshold": 0.99,
}


def ring(index):
    """`map_from_base` of the index-th place of a circle."""
    angle = 2 * np.pi * index / LAP
    x, y = RADIUS * np.sin(angle), -RADIUS * np.cos(angle)
    return Transform.from_xyz_rpy([x, y, 0.0, 0.0, 0.0, angle])


class Robot:
    """Drives around the circle; odometry is in a frame of its own."""

    def __init__(self, process, client):
        self.process, self.client, self.second = process, client, 0
        self.answers = client.collect(DiagnosticArray, f"{NODE}/answer")

    def drive(self, index, image=None, odometry=True, seconds=1):
        """The key-values of the answer at a place, so many seconds after the last."""
        self.second += seconds
        self.answers.clear()  # a stamp may come again
        if odometry is not None:
            moved = MAP_FROM_ODOM.inverse() @ ring(index) if odometry is True else odometry
            self.client.publish("odom", odometry_message(moved, self.second))
            self.client.spin(0.05)
        message = image_message(texture(index % LAP) if image is None else image, self.second)

        def answer():
            stamp = message.header.stamp
            return next((a for a in self.answers if a.header.stamp == stamp), None)

        return values(self.client.ask("image", message, answer, "an answer").status[0])

    def counts(self):
        return values(self.client.diagnosis(lambda s: True, "anything"))


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"), LAP, pose=ring)
    parameters = {
        "map": str(folder / "map"),
        "model": str(folder / "model"),
        "localizer.domain.override": "day",
        "publish_tf": True,
        **{f"loop_closure.{name}": value for name, value in LOOPS.items()},
    }
    client = Client()
    rename = ("-r", "~/initial_pose:=/initialpose")
    with node_process("localizer.node", folder / "node.log", parameters, *rename) as process:
        yield Robot(process, client)
    client.close()


def test_places_of_the_drive_and_of_the_map_met_again_are_published_with_both_stamps(robot):
    seconds, laps = 3, 3  # a lap takes longer than a keyframe is too young
    messages = robot.client.collect(DiagnosticArray, f"{NODE}/loop_closure")
    for index in range(laps * LAP):
        robot.drive(index, detailed(index % LAP), seconds=seconds)
    robot.client.spin(0.3)
    closures = [from_values(values(m.status[0])) for m in messages]
    own = [c for c in closures if c.kind == OWN]
    on_map = [c for c in closures if c.kind == MAP]
    assert len(own) >= 3 and len(on_map) >= 7
    for closure in own:
        age = (closure.stamp_ns - closure.keyframe_stamp_ns) // 10**9
        assert age in (seconds * LAP, 2 * seconds * LAP)
        assert closure.score > 0.99 and closure.inliers >= 12
        found = closure.keyframe_from_base
        metres, degrees = distance(found.pose, Transform.identity())
        assert metres < 0.1 and degrees < 0.5
        assert np.trace(found.covariance[:3, :3]) < 1.0  # not verified: 7
    for closure in on_map:
        index = (closure.stamp_ns // 10**9 - START_S) // seconds - 1
        assert distance(closure.map_from_keyframe, ring(index))[0] < 1e-6
        assert closure.keyframe_stamp_ns == (START_S + index % LAP) * 10**9
    for message, closure in zip(messages, closures, strict=True):
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == closure.stamp_ns
        assert message.header.frame_id == "base_link"
        assert (message.status[0].name, message.status[0].hardware_id) == (NAME, "front")
    counts = robot.counts()
    assert int(counts["loop closures own"]) == len(own)
    assert int(counts["loop closures own verified by points"]) == len(own)
    assert int(counts["loop closures map"]) == len(on_map)
    assert int(counts["keyframes of this drive"]) == laps * LAP


def test_a_clock_set_back_begins_a_new_drive_and_the_node_goes_on(robot):
    robot.drive(0)
    robot.second -= 20
    for index in range(2):
        assert robot.drive(index)["map image"] == str(index)
    told = robot.counts()
    assert (told["drives begun anew"], told["keyframes refused"]) == ("1", "0")
    assert "the drive begins anew for loop closures" in robot.process.log
    robot.second += 30


def test_a_broken_rule_of_the_consumer_is_told_once_and_nothing_is_held_back(robot):
    client = robot.client
    poses = client.collect(PoseWithCovarianceStamped, f"{NODE}/pose_with_covariance")
    on_robot = client.collect(PoseWithCovarianceStamped, f"{NODE}/global_pose")
    assert not client.set_parameter(NODE, "consumer", "amlc").successful
    assert client.set_parameter(NODE, "consumer", "amcl").successful
    robot.drive(1)
    robot.drive(2)
    words = "amcl: frame_id is 'town'; expected 'map', letter by letter"
    assert client.told(words).level == DiagnosticStatus.WARN
    assert robot.process.log.count(words) == 1
    client.until(lambda: len(poses) >= 2, "poses")
    for name, value in (("consumer_map_frame", "town"), ("consumer", "rtabmap")):
        assert client.set_parameter(NODE, name, value).successful
        robot.drive(3)
        client.diagnosis(lambda s: "frame_id" not in s.message, "accepted")
    assert on_robot[-1].header.frame_id == "base_link"
    assert on_robot[-1].header.stamp == poses[-1].header.stamp
    assert on_robot[-1].pose == poses[-1].pose
    assert client.set_parameter(NODE, "consumer", "none").successful


def test_where_to_start_is_published_once_for_each_relocalization(robot):
    starts = robot.client.collect(PoseWithCovarianceStamped, "/initialpose")
    robot.drive(4)
    asked = robot.client.request(Trigger, f"{NODE}/relocalize", Trigger.Request())
    robot.client.spin(0.3)
    robot.drive(5)
    robot.drive(6)
    robot.client.until(lambda: asked.done() and starts, "a place to start from")
    robot.client.spin(0.3)
    (start,) = starts
    assert asked.result().success and "map image 5" in asked.result().message
    assert start.header.frame_id == "town"
    assert distance(pose_to_transform(start.pose.pose), ring(5))[0] < 1e-6


def test_the_transform_between_map_and_odometry_closes_the_chain_to_the_vehicle():
    found = map_from_odom(ring(3), MAP_FROM_ODOM.inverse() @ ring(3))
    stamp_ns = START_S * 10**9 + 7
    message = map_odom.transform_stamped(found, stamp_ns, ("town", "odom"))
    assert (message.header.frame_id, message.child_frame_id) == ("town", "odom")
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp_ns
    at, turn = message.transform.translation, message.transform.rotation
    read = Transform(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
    metres, degrees = distance(read, MAP_FROM_ODOM)
    assert metres < 1e-9 and degrees < 1e-6


class Recorder:
    """In the place of a node, a publisher and TFMessage: keeps what is published."""

    def __init__(self):
        self.published = []

    def create_lifecycle_publisher(self, kind, topic, depth):
        assert topic == "/tf"
        return SimpleNamespace(publish=lambda message: self.published.extend(message.transforms))

    def get_logger(self):
        return SimpleNamespace(warning=lambda text: None)


def test_tf_holds_for_a_while_after_the_image_and_needs_odometry(monkeypatch):
    there = SimpleNamespace(TFMessage=SimpleNamespace)
    monkeypatch.setattr(map_odom.importlib, "import_module", lambda name: there)
    node, monitor = Recorder(), Monitor("tf")
    broadcaster = map_odom.MapOdom(node, monitor, wanted=True, tolerance=0.5)
    frames = ("town", "odom")
    broadcaster.publish(ring(2), None, 10**9, frames)
    assert not node.published and map_odom.NO_ODOMETRY in monitor.status("active").message
    reading = Reading(MAP_FROM_ODOM.inverse() @ ring(2), 4.0, 0)
    broadcaster.publish(ring(2), reading, 10**9, frames)
    (found,) = node.published
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == (1, 5 * 10**8)
    at = found.transform.translation
    assert np.allclose([at.x, at.y, at.z], MAP_FROM_ODOM.translation)


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is not None, reason="tf2_msgs is there")
def test_a_tf_that_cannot_be_published_is_told_and_poses_come_all_the_same(robot):
    assert robot.drive(7)["outcome"] == "known"
    assert robot.client.told(map_odom.MISSING).level == DiagnosticStatus.WARN


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is None, reason="tf2_msgs is missing")
def test_tf_from_map_to_odometry_follows_every_pose(robot):
    from tf2_msgs.msg import TFMessage

    transforms = robot.client.collect(TFMessage, "/tf")
    robot.client.spin(0.5)
    robot.drive(7)
    robot.client.until(lambda: transforms, "TF")
    found = transforms[-1].transforms[0]
    assert (found.header.frame_id, found.child_frame_id) == ("town", "odom")
    assert found.header.stamp.sec == START_S + robot.second + 1  # tf_tolerance
