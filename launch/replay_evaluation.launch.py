# SPDX-License-Identifier: Apache-2.0
"""Replays a bag to the localizer, evaluates its answers, writes the results and ends."""

import json
import subprocess

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from disam_ros.files.paths import find_config

STOP = "300"  # seconds from one signal to the next, stronger one: results are still written


def text(name: str) -> ParameterValue:
    """An argument that is a string whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def value(name: str, kind: type) -> ParameterValue:
    """An argument of another type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def find_topics(bag: str, map_dir: str, camera: str) -> dict:
    """Parameters and remappings of the localizer.

    By the interpreter of the nodes: that of `ros2 launch` may lack the packages.
    """
    command = ["python3", "-m", "disam_ros.nodes.replay.bag_topics", bag, map_dir, camera]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise RuntimeError(f"the topics of the bag are not known: {last}")
    return json.loads(ran.stdout)


def start(context: LaunchContext) -> list:
    """The localizer, subscribed to the topics of the bag, and the replay."""
    topics = find_topics(
        *(LaunchConfiguration(n).perform(context) for n in ("bag", "map", "camera"))
    )
    localizer = Node(
        package="disam_ros",
        executable="localizer_node",
        name="localizer",
        output="screen",
        parameters=[
            find_config(LaunchConfiguration("config").perform(context)),
            {**topics["parameters"], "map": text("map"), "model": text("model")},
        ],
        remappings=list(topics["remappings"].items()),
        sigterm_timeout=STOP,
        sigkill_timeout=STOP,
    )
    own = {name: text(name) for name in ("bag", "map", "model", "camera", "output", "record")}
    own["rate"], own["record_images"] = value("rate", float), value("record_images", bool)
    own["overwrite"] = value("overwrite", bool)
    replay = Node(
        package="disam_ros",
        executable="replay_evaluation",
        output="screen",
        parameters=[{**own, "start_node": False}],
        sigterm_timeout=STOP,
        sigkill_timeout=STOP,
    )
    end = EmitEvent(event=Shutdown(reason="the evaluation ended"))
    at_end = RegisterEventHandler(OnProcessExit(target_action=replay, on_exit=[end]))
    return [localizer, replay, at_end]


def generate_launch_description() -> LaunchDescription:
    arguments = {
        "bag": (None, "rosbag2 directory, .mcap or .db3 file"),
        "map": (None, "map directory"),
        "model": (None, "model directory the map was built with, or the name of a shipped one"),
        "config": ("cpu_robot", "localizer parameters: a file, or the name of one in config/"),
        "camera": ("", "camera of the bag, or its image topic; empty: its only camera"),
        "rate": ("0.0", "speed of the replay; 0: every image once the last was answered"),
        "output": ("replay_evaluation", "directory for the results"),
        "record": ("", "bag to write with answers and true poses; empty: none"),
        "record_images": ("true", "write the images to that bag, too"),
        "overwrite": ("false", "replace results and bag that a run wrote there before"),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
