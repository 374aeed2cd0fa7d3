# SPDX-License-Identifier: Apache-2.0
"""Builds a map while the vehicle drives. `ros2 service call /map_builder/finish
std_srvs/srv/Trigger` completes it."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("disam_ros"), "config", "map_builder.yaml"])
    arguments = [
        DeclareLaunchArgument("output", description="map directory to write"),
        DeclareLaunchArgument("model", description="model directory"),
        DeclareLaunchArgument("config", default_value=config, description="parameter file"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
        DeclareLaunchArgument("image", default_value="image", description="image topic"),
        DeclareLaunchArgument(
            "camera_info", default_value="camera_info", description="its camera_info topic"
        ),
        DeclareLaunchArgument(
            "pose", default_value="pose", description="PoseStamped topic, map_from_base"
        ),
        DeclareLaunchArgument(
            "odom", default_value="odom", description="Odometry topic, where pose_source is odom"
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="take the time from /clock"
        ),
    ]
    image = LaunchConfiguration("image")
    builder = Node(
        package="disam_ros",
        executable="map_builder_node",
        name="map_builder",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("config"),
            {
                "output": ParameterValue(LaunchConfiguration("output"), value_type=str),
                "model": ParameterValue(LaunchConfiguration("model"), value_type=str),
                "use_sim_time": ParameterValue(
                    LaunchConfiguration("use_sim_time"), value_type=bool
                ),
            },
        ],
        remappings=[
            ("image", image),
            ("image/compressed", [image, "/compressed"]),
            *((name, LaunchConfiguration(name)) for name in ("camera_info", "pose", "odom")),
        ],
    )
    return LaunchDescription([*arguments, builder])
