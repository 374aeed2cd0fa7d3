# SPDX-License-Identifier: Apache-2.0
"""~/match_image and ~/map_poses of the localizer, over DDS; the picture of a match."""

import shutil

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseArray
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from support.data import texture
from support.maps import base_pose, save_tiny_map
from support.node_process import RELIABLE, SINGLE
from support.robot import NODE

from disam_ros.errors import ImageError
from disam_ros.mapping.thumbnails import FILE
from disam_ros.models.model import load_model
from disam_ros.nodes import match_picture
from disam_ros.nodes.conversions import pose_to_transform
from disam_ros.nodes.localizer.publishers.match_image import Pace
from disam_ros.nodes.match_picture import PANELS, TEXT, WIDTH, compose, panels

MATCH, POSES = f"{NODE}/match_image", f"{NODE}/map_poses"
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def node(start_localizer):
    with start_localizer({**RELIABLE, **SINGLE}, topics={MATCH: Image}) as robot:
        yield robot


@pytest.fixture
def robot(node, places):
    """The robot; its node has the map of six places."""
    node.set("map", places["map"])
    assert node.client.trigger("reload").success
    return node


def pixels(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of the differences of two pictures, a as BGR."""
    small = np.asarray(a)[2::5, 2::5, ::-1].astype(int)  # panels are five times as large
    return float(np.abs(small - b).mean())


def test_the_match_image_shows_query_and_map_image(robot):
    shown: list[Image] = robot.heard[MATCH]

    def of_query_3():
        return [m for m in shown if difference(panels(pixels(m))[0], texture(3)) < 20]

    robot.client.until(of_query_3, "a match image", again=lambda: robot.localize(3))
    message = of_query_3()[-1]
    assert message.encoding == "bgr8" and message.header.frame_id == "camera"
    assert message.header.stamp in [pose.header.stamp for pose in robot.poses]
    query, match, heat = panels(pixels(message))
    gaps = [difference(match, texture(index)) for index in range(6)]
    assert np.argmin(gaps) == 3 and gaps[3] < 20
    assert (heat != query).any()


def test_a_map_that_lost_its_thumbnails_is_matched_all_the_same(places, robot, tmp_path):
    shutil.copytree(places["map"], tmp_path / "map")
    (tmp_path / "map" / FILE).unlink()
    robot.set("map", str(tmp_path / "map"))
    assert robot.client.trigger("reload").success
    shown: list[Image] = robot.heard[MATCH]
    before = len(shown)
    robot.client.until(lambda: len(shown) > before, "one", again=lambda: robot.localize(2))

    def words():
        return (panels(pixels(shown[-1]))[1][:60] == match_picture.PAPER).all()

    robot.client.until(words, "words in its place", again=lambda: robot.localize(2))
    assert "used without its thumbnails" in robot.process.log


def test_the_poses_of_the_map_reach_late_subscribers_and_follow_a_reload(places, robot, tmp_path):
    heard: list[PoseArray] = []
    robot.client.node.create_subscription(PoseArray, POSES, heard.append, LATCHED)
    robot.client.until(lambda: heard, "the latched poses")
    assert heard[0].header.frame_id == "town" and len(heard[0].poses) == 6
    for index, pose in enumerate(heard[0].poses):
        expected = base_pose(index)
        result = pose_to_transform(pose)
        assert np.allclose(result.translation, expected.translation, atol=1e-9)
        assert np.allclose(result.rotation, expected.rotation, atol=1e-9)
    save_tiny_map(tmp_path / "short", load_model(places["model"]), count=3)
    robot.set("map", str(tmp_path / "short"))
    assert robot.client.trigger("reload").success
    robot.client.until(lambda: len(heard[-1].poses) == 3, "the poses of the new map")


def test_of_events_that_are_not_on_time_no_more_than_the_rate_are_let_through():
    random, pace = np.random.default_rng(0), Pace(5.0)
    times = 0.1 * np.arange(1000) + random.uniform(0, 0.05, 1000)  # 10 Hz
    drawn = [time for time in times if pace.due(time)]
    assert len(drawn) == pytest.approx(500, rel=0.02)
    assert all(sum(start <= time < start + 10.0 for time in drawn) <= 51 for start in drawn)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
def test_panels_come_out_of_the_picture_as_they_went_in(height, width, rows, columns):
    grey = [np.full((height, width, 3), 200, np.uint8), np.full((rows, columns, 3), 90, np.uint8)]
    picture = compose([*grey, "none"], ["a", "ü", "c"], "text")
    assert picture.shape[1] == PANELS * WIDTH
    result = panels(picture)
    assert all(panel.shape == (picture.shape[0] - TEXT, WIDTH, 3) for panel in result)
    assert (result[0] == 200).any() and set(np.unique(result[0])) <= {200, *match_picture.PAPER}
    assert (result[1] == 90).any() and set(np.unique(result[1])) <= {90, *match_picture.PAPER}


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(ImageError, match="expected 3 panels of 320 px"):
        panels(np.zeros((200, 640, 3), np.uint8))
