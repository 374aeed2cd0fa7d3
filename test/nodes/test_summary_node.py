# SPDX-License-Identifier: Apache-2.0
"""State, probability, distance and fix of the localizer, over DDS; what it says while it waits."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import NavSatFix, NavSatStatus
from std_msgs.msg import Float32, String
from support.data import texture
from support.maps import save_tiny_map
from support.messages import odometry_message
from support.node_process import RELIABLE, SINGLE
from support.robot import NODE
from support.ros import Client

from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.models.model import load_model
from disam_ros.nodes.conversions import pose_to_transform

PLACE, YAW = (50.2, 8.6), 0.7
STATE, PROBABILITY, FIX = f"{NODE}/state", f"{NODE}/probability", f"{NODE}/fix"
DISTANCE = f"{NODE}/distance_since_known"
TOPICS = {PROBABILITY: Float32, DISTANCE: Float32, FIX: NavSatFix}
PARAMETERS = {
    "localizer.prior.origin_yaw": YAW,
    "localizer.prior.max_age": 1.5,  # of odometry: as old as the images are apart
    "stale_after": 60.0,
    **RELIABLE,
    **SINGLE,
}


@pytest.fixture(scope="module")
def node(start_localizer, places, tmp_path_factory):
    placed = tmp_path_factory.mktemp("placed") / "map"
    save_tiny_map(placed, load_model(places["model"]), place=PLACE)
    with start_localizer({"map": str(placed), **PARAMETERS}, topics=TOPICS) as robot:
        yield robot


@pytest.fixture
def robot(node):
    """The robot, whose node has just been activated with the parameters at its start."""
    for name in ("localizer.sequence.enabled", "localizer.min_probability", "stale_after"):
        node.set(name, PARAMETERS[name])
    assert node.client.transition("deactivate") and node.client.transition("activate")
    return node


def states(client: Client) -> list[str]:
    """Grows with the states, from the last one on that was published before."""
    heard: list[str] = []
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.node.create_subscription(String, STATE, lambda m: heard.append(m.data), latched)
    return heard


def test_the_state_is_the_last_images_and_late_subscribers_hear_it(robot):
    heard = states(robot.client)
    robot.client.until(lambda: heard, "a state before any image")
    assert heard == ["waiting"]
    assert robot.answer(texture(3))["outcome"] == "known"
    robot.client.until(lambda: heard[-1] == "known", "the state of a known place")
    robot.answer(np.zeros((48, 64, 3), np.uint8))
    robot.client.until(lambda: heard[-1] == "unreadable", "the state of a blank image")
    assert robot.client.transition("deactivate")
    robot.client.until(lambda: heard[-1] == "inactive", "the state of a node that stopped")
    late = states(robot.client)
    robot.client.until(lambda: late, "the latched state")
    assert late == ["inactive"]
    assert robot.client.transition("activate")
    robot.client.until(lambda: heard[-1] == "waiting", "the state of a node that began again")
    assert all(a != b for a, b in pairwise(heard))  # changes only


def test_no_images_for_long_is_a_state_too(robot):
    heard = states(robot.client)
    assert robot.answer(texture(3))["outcome"] == "known"
    robot.client.until(lambda: heard and heard[-1] == "known", "the state of a known place")
    robot.set("stale_after", 0.5)
    robot.client.until(lambda: heard[-1] == "waiting", "the state without images")


def odometry(x: float) -> Odometry:
    return odometry_message(Transform.from_xyz_rpy([x, 0, 0, 0, 0, 0]))


def test_probability_fix_and_the_distance_since_a_place_was_known(robot):
    robot.set("localizer.sequence.enabled", True)
    robot.set("localizer.min_probability", 0.05)
    robot.deliver("odom", odometry(0.0))
    said, heard = robot.answer(texture(3)), robot.heard
    assert said["outcome"] == "known"
    robot.client.until(lambda: heard[FIX] and heard[DISTANCE], "a fix and a distance")
    assert heard[PROBABILITY][-1].data == pytest.approx(float(said["probability"]), abs=1e-5)
    assert heard[DISTANCE][-1].data == 0.0

    (fix,), pose = heard[FIX][-1:], robot.poses[-1]
    assert fix.header.stamp == pose.header.stamp and fix.header.frame_id == "base_link"
    enu = Origin(*PLACE).to_enu(fix.latitude, fix.longitude)[:2]
    c, s = np.cos(YAW), np.sin(YAW)
    at = pose_to_transform(pose.pose).translation[:2]
    assert np.allclose(enu, [[c, -s], [s, c]] @ at, atol=1e-3)
    assert np.isnan(fix.altitude) and fix.status.status == 0
    assert fix.position_covariance_type == NavSatFix.COVARIANCE_TYPE_KNOWN
    assert np.linalg.eigvalsh(np.reshape(fix.position_covariance, (3, 3)))[0] > 0

    fixes = len(heard[FIX])
    robot.set("localizer.min_probability", 1.0)
    for x in (1.0, 3.0):
        robot.deliver("odom", odometry(x))
        said = robot.answer(texture(70 + int(x)))
        assert said["outcome"] == "unknown"
    robot.client.until(
        lambda: heard[DISTANCE][-1].data == pytest.approx(3.0, abs=1e-3), "the distance driven"
    )
    assert len(heard[FIX]) == fixes


def test_fixes_far_from_the_map_are_reported_once_until_they_are_near(robot):
    words = "fixes lie more than 1 km from every map image"

    def fix(latitude):
        message = NavSatFix(latitude=latitude, longitude=PLACE[1])
        message.status.status = NavSatStatus.STATUS_FIX
        robot.deliver("fix", message)

    before = robot.client.now()
    for latitude in (PLACE[0] + 0.1, PLACE[0] + 0.2):
        fix(latitude)
    robot.client.problem(words, before)
    assert robot.process.log.count(words) == 1
    fix(PLACE[0])
    robot.client.diagnosis(lambda s: words not in s.message, "fixes near the map")


def test_a_topic_of_another_type_is_reported_in_one_line_until_it_is_mended(robot):
    words = "no message of /weather is heard: it is published as sensor_msgs/msg/NavSatFix"
    client, before = robot.client, robot.client.now()
    wrong = client.node.create_publisher(NavSatFix, "/weather", 1)
    client.problem("remap /weather to a topic of that type", before)
    client.facts()
    assert robot.process.log.count(words) == 1
    client.node.destroy_publisher(wrong)
    client.node.create_publisher(String, "/weather", 1)
    client.diagnosis(lambda s: "remap /weather" not in s.message, "weather of its type")


def test_first_pose_and_changes_are_logged(robot):
    robot.set("localizer.min_probability", 1.0)
    assert robot.answer(texture(77))["outcome"] == "unknown"
    robot.set("localizer.min_probability", 0.0)
    assert robot.answer(texture(3))["outcome"] == "known"
    line = "first pose: camera front: map image 3, probability "
    robot.client.until(lambda: line in robot.process.log, line)
