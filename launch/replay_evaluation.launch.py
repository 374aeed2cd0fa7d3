# SPDX-License-Identifier: Apache-2.0
"""Replays a bag to the localizer, evaluates its answers, writes the results and ends."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.replay.bag_topics import find_topics


def text(name: str) -> ParameterValue:
    """An argument that is a string whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def value(name: str, kind: type) -> ParameterValue:
    """An argument of another type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def start(context: LaunchContext) -> list:
    """The localizer, subscribed to the topics of the bag, and the replay."""
    names = ("bag", "map", "camera")
    bag, map_dir, camera = (LaunchConfiguration(name).perform(context) for name in names)
    topics = find_topics(bag, PlaceMap(map_dir, verify=False).cameras(), camera)
    localizer = Node(
        package="disam_ros",
        executable="localizer_node",
        name="localizer",
        output="screen",
        parameters=[
            LaunchConfiguration("config"),
            {**topics.parameters, "map": text("map"), "model": text("model")},
        ],
        remappings=list(topics.remappings.items()),
    )
    own = {name: text(name) for name in ("bag", "map", "model", "camera", "output", "record")}
    own["rate"], own["record_images"] = value("rate", float), value("record_images", bool)
    replay = Node(
        package="disam_ros",
        executable="replay_evaluation",
        output="screen",
        parameters=[{**own, "start_node": False}],
    )
    end = EmitEvent(event=Shutdown(reason="the evaluation ended"))
    at_end = RegisterEventHandler(OnProcessExit(target_action=replay, on_exit=[end]))
    return [localizer, replay, at_end]


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("disam_ros"), "config", "cpu_robot.yaml"])
    arguments = {
        "bag": (None, "rosbag2 directory, .mcap or .db3 file"),
        "map": (None, "map directory"),
        "model": (None, "model directory the map was built with"),
        "config": (config, "localizer parameters"),
        "camera": ("", "camera of the bag, or its image topic; empty: its only camera"),
        "rate": ("0.0", "speed of the replay; 0: every image once the last was answered"),
        "output": ("replay_evaluation", "directory for the results"),
        "record": ("", "bag to write with answers and true poses; empty: none"),
        "record_images": ("true", "write the images to that bag, too"),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
