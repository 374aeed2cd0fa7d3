# SPDX-License-Identifier: Apache-2.0
"""Starts the localizer and, on request, RViz."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("disam_ros"), "config"])


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("map", description="map directory"),
        DeclareLaunchArgument("model", description="model directory the map was built with"),
        DeclareLaunchArgument(
            "config",
            default_value=PathJoinSubstitution([CONFIG, "cpu_robot.yaml"]),
            description="parameter file; see those in config/",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
        DeclareLaunchArgument(
            "image", default_value="image", description="image topic, of one camera"
        ),
        DeclareLaunchArgument(
            "camera_info", default_value="camera_info", description="its camera_info topic"
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="take the time from /clock"
        ),
        DeclareLaunchArgument("rviz", default_value="false", description="show it in RViz"),
    ]
    image = LaunchConfiguration("image")
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    localizer = Node(
        package="disam_ros",
        executable="localizer_node",
        name="localizer",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("config"),
            {
                "map": ParameterValue(LaunchConfiguration("map"), value_type=str),
                "model": ParameterValue(LaunchConfiguration("model"), value_type=str),
                "use_sim_time": use_sim_time,
            },
        ],
        remappings=[
            ("image", image),
            ("image/compressed", [image, "/compressed"]),
            ("camera_info", LaunchConfiguration("camera_info")),
        ],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", PathJoinSubstitution([CONFIG, "relocalization.rviz"])],
        parameters=[{"use_sim_time": use_sim_time}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, localizer, rviz])
