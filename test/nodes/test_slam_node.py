# SPDX-License-Identifier: Apache-2.0
"""What the localizer node does for SLAM and localization stacks, over DDS."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from support.data import detailed, save_tiny_model, texture
from support.maps import START_S, save_tiny_map
from support.messages import values
from support.node_process import RELIABLE, node_process
from support.ring import LAP, MAP_FROM_ODOM, RingRobot, ring
from support.robot import NODE

from disam_ros.geometry import Transform, distance
from disam_ros.localization.odometry import Reading
from disam_ros.nodes.conversions import pose_to_transform
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.localizer import map_odom
from disam_ros.slam.consumers import map_from_odom
from disam_ros.slam.loop_hint import MAP, NAME, OWN, from_values

LOOPS = {
    "enabled": True,
    "keyframe_distance": 1.0,
    "min_age": 5.0,
    "min_path": 15.0,
    "agreeing": 3,
    "place_distance": 5.0,
    "score_threshold": 0.99,
}
CLOSURES, START = f"{NODE}/loop_closure", "/initialpose"
ON_MAP, ON_ROBOT = f"{NODE}/pose_with_covariance", f"{NODE}/global_pose"
TOPICS = {
    CLOSURES: DiagnosticArray,
    START: PoseWithCovarianceStamped,
    ON_MAP: PoseWithCovarianceStamped,
    ON_ROBOT: PoseWithCovarianceStamped,
}


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"), LAP, pose=ring)
    parameters = {
        "map": str(folder / "map"),
        "model": str(folder / "model"),
        "localizer.domain.override": "day",
        "publish_tf": True,
        "relocalize_timeout": 60.0,
        **RELIABLE,
        **{f"loop_closure.{name}": value for name, value in LOOPS.items()},
    }
    rename = ("-r", "~/initial_pose:=/initialpose")
    with (
        node_process("localizer.node", folder / "log", parameters, *rename) as process,
        RingRobot(process, TOPICS) as robot,
    ):
        yield robot


def test_places_of_the_drive_and_of_the_map_met_again_are_reported_with_both_stamps(robot):
    robot.restart()  # without what was driven before
    messages, before = robot.heard[CLOSURES], robot.client.facts()
    messages.clear()
    first = robot.second + 1
    for index in range(2 * LAP):
        robot.drive(index, detailed(index % LAP))

    def grown(status: DiagnosticStatus, kind: str) -> int:
        key = f"loop closures {kind}"
        return int(values(status)[key]) - int(before[key])

    # The map is met at the last place, and what is counted has been published.
    status = robot.client.diagnosis(
        lambda s: values(s)["keyframes of this drive"] == str(2 * LAP), "all keyframes"
    )
    robot.client.until(
        lambda: len(messages) == grown(status, OWN) + grown(status, MAP), "all loop closures"
    )
    hints = [from_values(values(m.status[0])) for m in messages]
    own = [h for h in hints if h.kind == OWN]
    on_map = [h for h in hints if h.kind == MAP]
    assert len(own) >= 3 and len(on_map) >= 8
    for hint in own:
        assert hint.stamp_ns - hint.keyframe_stamp_ns == LAP * 10**9
        assert hint.score > 0.99 and hint.relation.inliers >= 12
        metres, degrees = distance(hint.relation.keyframe_from_base, Transform.identity())
        assert metres < 0.1 and degrees < 0.5
        assert np.trace(hint.relation.covariance[:3, :3]) < 1.0  # not verified: 7
    for hint in on_map:
        index = hint.stamp_ns // 10**9 - START_S - first
        assert distance(hint.map_from_keyframe, ring(index))[0] < 1e-6
        assert hint.keyframe_stamp_ns == (START_S + index % LAP) * 10**9
    for message, hint in zip(messages, hints, strict=True):
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == hint.stamp_ns
        assert message.header.frame_id == "base_link"
        assert (message.status[0].name, message.status[0].hardware_id) == (NAME, "front")
    assert len(own) == grown(status, OWN) == grown(status, "own verified by points")
    assert len(on_map) == grown(status, MAP)


def test_a_clock_set_back_begins_a_new_drive_and_the_node_goes_on(robot):
    before = robot.client.facts()
    robot.drive(0)
    robot.second -= 20
    for index in range(2):
        assert robot.drive(index)["map image"] == str(index)
    robot.second += 20
    count = int(before["drives begun anew"])
    status = robot.client.diagnosis(
        lambda s: int(values(s)["drives begun anew"]) == count + 1, "a new drive"
    )
    assert values(status)["keyframes refused"] == before["keyframes refused"]
    assert "the drive begins anew for loop closures" in robot.process.log


def test_a_broken_rule_of_the_consumer_is_reported_once_and_nothing_is_held_back(robot):
    poses, on_robot, before = robot.heard[ON_MAP], robot.heard[ON_ROBOT], robot.client.now()
    assert not robot.client.set_parameter("consumer", "amlc").successful
    robot.set("consumer", "amcl")
    for index in (1, 2):
        robot.of_image(poses, robot.image_at(index))
    words = "amcl: frame_id is 'town'; expected 'map', letter by letter"
    assert robot.client.problem(words, before).level == DiagnosticStatus.WARN
    assert robot.process.log.count(words) == 1
    for name, value in (("consumer_map_frame", "town"), ("consumer", "rtabmap")):
        robot.set(name, value)
        sent = robot.image_at(3)
        robot.client.diagnosis(lambda s: "frame_id" not in s.message, "accepted")
    vehicle, place = robot.of_image(on_robot, sent), robot.of_image(poses, sent)
    assert vehicle.header.frame_id == "base_link"
    assert vehicle.pose == place.pose
    robot.set("consumer", "none")


def test_where_to_start_is_published_once_for_each_relocalization(robot):
    starts, results = robot.heard[START], []
    starts.clear()
    for index in (5, 7):
        robot.drive(index - 1)
        asked = robot.client.ask("relocalize")
        robot.client.until(asked.done, "an answer", again=lambda i=index: robot.drive(i))
        results.append(asked.result())
        robot.drive(index + 1)
    # The second one comes after all that the images between the two could have published.
    robot.client.until(lambda: len(starts) >= 2, "a place to start from, twice")
    assert len(starts) == 2
    for index, start, result in zip((5, 7), starts, results, strict=True):
        assert result.success and f"map image {index}" in result.message
        assert start.header.frame_id == "town"
        assert distance(pose_to_transform(start.pose.pose), ring(index))[0] < 1e-6


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
def test_a_tf_that_cannot_be_published_is_reported_and_poses_come_nevertheless(robot):
    before = robot.client.now()
    assert robot.drive(7)["outcome"] == "known"
    assert robot.client.problem(map_odom.MISSING, before).level == DiagnosticStatus.WARN


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is None, reason="tf2_msgs is missing")
def test_tf_from_map_to_odometry_follows_every_pose(robot):
    from tf2_msgs.msg import TFMessage

    transforms = robot.client.collect(TFMessage, "/tf")
    robot.client.until(lambda: transforms, "TF", again=lambda: robot.drive(7, texture(7)))
    found = transforms[-1].transforms[0]
    assert (found.header.frame_id, found.child_frame_id) == ("town", "odom")
    assert START_S + 1 < found.header.stamp.sec <= START_S + robot.second + 1  # tf_tolerance
