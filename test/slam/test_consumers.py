# SPDX-License-Identifier: Apache-2.0
"""Every consumer accepts what the node publishes, with the parameter files that are shipped."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from slam.consumer_rules import CONSUMERS, PublishedPose, problems

from disam_ros.files.checking import build
from disam_ros.geometry import Transform
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.slam.consumers import CONSUMERS as LAUNCHED

FILES = Path(__file__).parents[2] / "config" / "consumers"
POSE = Transform.from_xyz_rpy([12.0, -3.0, 0.2, 0.01, -0.02, 2.5])
SPREAD = np.random.default_rng(0).standard_normal((6, 6))
FRAMES = dict.fromkeys(CONSUMERS, "map") | {"rtabmap": "base_link"}  # what each wants as frame_id


def parameters(name):
    """Of the only node in a shipped file."""
    (node,) = yaml.safe_load((FILES / f"{name}.yaml").read_text()).values()
    return node["ros__parameters"]


def published(covariance, frame_id="map"):
    """As the localizer node publishes it."""
    conversions = pytest.importorskip("disam_ros.nodes.conversions")
    header = conversions.Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = 1758214380, 400_000_000
    return PublishedPose.of(conversions.pose_with_covariance(POSE, covariance, header))


@pytest.mark.parametrize("consumer", CONSUMERS)
@settings(max_examples=20, deadline=None)
@given(root=st.lists(st.floats(-50, 50), min_size=36, max_size=36))
def test_every_consumer_accepts_the_poses_that_the_node_publishes(consumer, root):
    root = np.reshape(root, (6, 6))
    pose = published(root @ root.T + 0.01 * np.eye(6), FRAMES[consumer])
    assert problems(consumer, pose, parameters(consumer)) == []


@pytest.mark.parametrize(
    ("consumer", "change", "reason"),
    [
        ("amcl", {"global_frame_id": "/map"}, "letter by letter"),
        ("robot_localization", {"world_frame": "odom"}, "map's instance"),
        ("robot_localization", {"pose0_differential": True}, "differential"),
        ("robot_localization", {"pose0_relative": True}, "relative"),
        ("robot_localization", {"pose0_config": [True, True] + [False] * 13}, "yaw"),
        ("rtabmap", {"Optimizer/PriorsIgnored": "true"}, "no effect"),
        ("autoware", {"gnss_enabled": False}, "gnss_enabled"),
        ("slam_toolbox", {"mode": "mapping"}, "localization"),
    ],
)
def test_a_consumer_with_wrong_parameters_is_recognized(consumer, change, reason):
    pose = published(SPREAD @ SPREAD.T, FRAMES[consumer])
    result = problems(consumer, pose, parameters(consumer) | change)
    assert len(result) == 1 and reason in result[0]


def test_every_consumer_of_the_launch_file_has_a_parameter_file_and_gets_what_it_takes():
    assert {*LAUNCHED} == {*CONSUMERS, "map_odom_tf", "nav2"}
    assert LAUNCHED["nav2"] == LAUNCHED["amcl"]
    page = (FILES.parents[1] / "docs" / "slam.md").read_text()
    policy = (FILES.parent / "sros2_policy.xml").read_text()  # names the localizer's topics
    for name, consumer in LAUNCHED.items():
        build(LocalizerNodeConfig, consumer.parameters)
        topics = {*consumer.remappings.values()} - {"/initialpose"}
        assert all(topic in page for topic in topics), name
        assert all(f"<topic>{topic}</topic>" in policy for topic in consumer.remappings), name


def test_every_consumer_has_a_file_that_says_what_it_is_for():
    assert {path.stem for path in FILES.glob("*.yaml")} == {*CONSUMERS, "map_odom_tf"}
    for path in FILES.glob("*.yaml"):
        first, second, *_ = path.read_text().splitlines()
        assert "SPDX" in first and second.startswith("# ")


def test_the_frame_between_map_and_odometry_is_left_to_others_by_default():
    defaults = {f.name: f.default for f in fields(LocalizerNodeConfig)}
    assert not defaults.get("publish_tf", False)
    assert parameters("map_odom_tf")["publish_tf"] is True
