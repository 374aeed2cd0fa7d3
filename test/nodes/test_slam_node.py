# SPDX-License-Identifier: Apache-2.0
"""What the localizer node does for SLAM and localization stacks, over DDS."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from support.data import detailed, texture
from support.maps import START_S
from support.messages import values
from support.node_process import RELIABLE, SINGLE
from support.ring import LAP, MAP_FROM_ODOM, RingRobot, ring
from support.robot import NODE

from disam_ros.geometry import Transform, distance
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.nodes.conversions import pose_to_transform
from disam_ros.nodes.localizer.publishers import map_odom
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.slam.loop_closure_message import MAP, NAME, OWN, from_values

LOOPS = {
    "enabled": True,
    "keyframe_distance": 1.0,
    "min_path": 15.0,
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
def robot(start_localizer, ring_places):
    parameters = {
        **ring_places,
        "localizer.domain.override": "day",
        "publish_tf": True,
        "stale_after": 60.0,
        **RELIABLE,
        **SINGLE,
        **{f"loop_closure.{name}": value for name, value in LOOPS.items()},
    }
    rename = ("-r", "~/initial_pose:=/initialpose")
    with start_localizer(parameters, *rename, kind=RingRobot, topics=TOPICS) as robot:
        yield robot


def test_places_of_the_drive_and_of_the_map_met_again_are_published_with_both_stamps(robot):
    seconds, laps = 3, 3  # a lap takes longer than a keyframe is too young
    robot.restart()  # without what was driven before
    messages, before = robot.heard[CLOSURES], robot.client.facts()
    messages.clear()
    first = robot.second + seconds
    for index in range(laps * LAP):
        robot.second += seconds - 1
        robot.drive(index, detailed(index % LAP))

    def grown(status: DiagnosticStatus, kind: str) -> int:
        key = f"loop closures {kind}"
        return int(values(status)[key]) - int(before[key])

    # The map is met at the last place, and what is counted has been published.
    status = robot.client.diagnosis(
        lambda s: values(s)["keyframes of this drive"] == str(laps * LAP), "all keyframes"
    )
    robot.client.until(
        lambda: len(messages) == grown(status, OWN) + grown(status, MAP), "all loop closures"
    )
    closures = [from_values(values(m.status[0])) for m in messages]
    own = [c for c in closures if c.kind == OWN]
    on_map = [c for c in closures if c.kind == MAP]
    assert len(own) >= 3 and len(on_map) >= 7
    for closure in own:
        age = (closure.stamp_ns - closure.keyframe_stamp_ns) // 10**9
        assert age in (seconds * LAP, 2 * seconds * LAP)
    for closure in on_map:
        index = (closure.stamp_ns // 10**9 - START_S - first) // seconds
        assert distance(closure.map_from_keyframe, ring(index))[0] < 5e-3
        assert closure.keyframe_stamp_ns == (START_S + index % LAP) * 10**9
    for message, closure in zip(messages, closures, strict=True):
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == closure.stamp_ns
        assert message.header.frame_id == "base_link"
        assert (message.status[0].name, message.status[0].hardware_id) == (NAME, "front")
    assert not robot.heard[START]  # nobody asked for a place to start from
    assert len(own) == grown(status, OWN) == grown(status, "own verified by keypoints")
    assert len(on_map) == grown(status, MAP)


def test_a_clock_set_back_begins_a_new_drive_and_the_node_goes_on(robot):
    before = robot.client.facts()
    robot.drive(0)
    robot.second -= 20
    for index in range(2):
        assert robot.drive(index)["map image"] == str(index)
    robot.second += 20
    count = int(before["drives started over"])
    status = robot.client.diagnosis(
        lambda s: int(values(s)["drives started over"]) == count + 1, "a new drive"
    )
    assert values(status)["keyframes refused"] == before["keyframes refused"]
    assert "the drive starts over for loop closures" in robot.process.log


def test_the_global_pose_is_the_pose_with_the_frame_on_the_robot(robot):
    sent = robot.image_at(3)
    on_map, on_robot = (robot.of_image(robot.heard[topic], sent) for topic in (ON_MAP, ON_ROBOT))
    assert (on_map.header.frame_id, on_robot.header.frame_id) == ("town", "base_link")
    assert on_robot.pose == on_map.pose


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
    tenth = 0.1 * distance(ring(0), ring(1))[0]  # an answer lies between map images
    for index, start, result in zip((5, 7), starts, results, strict=True):
        assert result.success and f"map image {index}" in result.message
        assert start.header.frame_id == "town"
        assert start.pose.pose == robot.of_image(robot.heard[ON_MAP], start).pose.pose
        assert distance(pose_to_transform(start.pose.pose), ring(index))[0] < tenth


class Recorder:
    """In the place of a node, a publisher and TFMessage: keeps what is published."""

    def __init__(self):
        self.published = []

    def create_lifecycle_publisher(self, kind, topic, depth, event_callbacks):
        assert topic == "/tf"
        return SimpleNamespace(publish=lambda message: self.published.extend(message.transforms))

    def get_logger(self):
        return SimpleNamespace(warning=lambda text: None)


def test_tf_holds_for_a_while_after_the_image_and_needs_odometry(monkeypatch):
    there = SimpleNamespace(TFMessage=SimpleNamespace)
    monkeypatch.setattr(map_odom.importlib, "import_module", lambda name: there)
    node, monitor = Recorder(), Monitor("tf")
    broadcaster = map_odom.MapOdom(node, monitor, enabled=True, tolerance=0.5)
    frames = ("town", "odom")
    broadcaster.publish(ring(2), None, 10**9, frames)
    assert not node.published and map_odom.NO_ODOMETRY in monitor.status("active").message
    reading = Reading(MAP_FROM_ODOM.inverse() @ ring(2), 4.0, 0)
    broadcaster.publish(ring(2), reading, 10**9, frames)
    (result,) = node.published
    assert (result.header.stamp.sec, result.header.stamp.nanosec) == (1, 5 * 10**8)
    assert (result.header.frame_id, result.child_frame_id) == frames
    at, turn = result.transform.translation, result.transform.rotation
    read = Transform(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
    assert distance(read, MAP_FROM_ODOM) == pytest.approx((0, 0), abs=1e-6)


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
    result = transforms[-1].transforms[0]
    assert (result.header.frame_id, result.child_frame_id) == ("town", "odom")
    assert START_S + 1 < result.header.stamp.sec <= START_S + robot.second + 1  # tf_tolerance
