# SPDX-License-Identifier: Apache-2.0
"""Plays a bag to the localizer, records its answers if asked and ends with the bag."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

RECORDED = ("/localizer/pose", "/localizer/pose_with_covariance", "/diagnostics")


def text(name: str) -> ParameterValue:
    """An argument that is a string whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("disam_ros"), "config", "cpu_robot.yaml"])
    arguments = [
        DeclareLaunchArgument("bag", description="rosbag2 directory, .mcap or .db3 file"),
        DeclareLaunchArgument("map", description="map directory"),
        DeclareLaunchArgument("model", description="model directory the map was built with"),
        DeclareLaunchArgument("config", default_value=config, description="localizer parameters"),
        DeclareLaunchArgument("camera", default_value="front", description="camera in the bag"),
        DeclareLaunchArgument(
            "image_transport", default_value="compressed", description="images in the bag"
        ),
        DeclareLaunchArgument("rate", default_value="1.0", description="speed of the replay"),
        DeclareLaunchArgument(
            "record", default_value="", description="bag to write the answers to; empty: none"
        ),
    ]
    topic = ["/camera/", LaunchConfiguration("camera")]
    own = {name: text(name) for name in ("map", "model", "image_transport")}
    own["cameras"] = ParameterValue(["[", LaunchConfiguration("camera"), "]"])
    localizer = Node(
        package="disam_ros",
        executable="localizer_node",
        name="localizer",
        output="screen",
        parameters=[LaunchConfiguration("config"), {**own, "use_sim_time": True}],
        remappings=[
            ("image", [*topic, "/image_raw"]),
            ("image/compressed", [*topic, "/image_raw/compressed"]),
            ("camera_info", [*topic, "/camera_info"]),
        ],
    )
    rate = ParameterValue(LaunchConfiguration("rate"), value_type=float)
    replay = Node(
        package="disam_ros",
        executable="replay_node",
        output="screen",
        parameters=[{"bag": text("bag"), "rate": rate, "start_delay": 10.0}],  # seconds to load
    )
    record = ExecuteProcess(
        cmd=["ros2", "bag", "record", "-o", LaunchConfiguration("record"), *RECORDED],
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("record"), "")),
    )
    end = EmitEvent(event=Shutdown(reason="the bag ended"))
    at_end = RegisterEventHandler(OnProcessExit(target_action=replay, on_exit=[end]))
    return LaunchDescription([*arguments, localizer, record, replay, at_end])
