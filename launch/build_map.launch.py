# SPDX-License-Identifier: Apache-2.0
"""Builds a map while the vehicle drives.

`ros2 service call /map_builder/finish std_srvs/srv/Trigger` completes it.
"""

import os
from posixpath import dirname, join

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from disam_ros.files.paths import find_config, missing_profile
from disam_ros.nodes.launching import refuse_unknown_arguments

STOP = "300"  # seconds from one signal to the next, stronger one: images are still encoded


# name: (default, None where required; description; choices, None: any)
ARGUMENTS = {
    "output": (None, "map directory to write", None),
    "model": (None, "model directory, or the name of a shipped model", None),
    "config": ("map_builder", "parameter file, or the name of one of those in config/", None),
    "image": ("image", "image topic", None),
    "camera_info": ("", "its camera_info topic; empty: camera_info beside the image", None),
    "image_transport": ("", "image transport; empty: as in config", ("", "raw", "compressed")),
    "pose_source": (
        "",
        "where poses come from; empty: as in config",
        ("", "pose", "pose_with_covariance", "odom", "tf"),
    ),
    "pose": ("pose", "topic of PoseStamped, or of PoseWithCovarianceStamped", None),
    "odom": ("odom", "Odometry topic, where pose_source is odom", None),
    "fix": ("fix", "NavSatFix topic: the map's place on Earth", None),
    "namespace": ("", "namespace of the node and its relative topics", None),
    "use_sim_time": ("false", "take the time from /clock", ("true", "false")),
    "log_level": ("info", "least severity that is logged", ("debug", "info", "warn", "error")),
    "large_images": (
        "false",
        "nodes that are launched after it, such as a camera driver, get 32 MB of shared memory "
        "each, with which their raw images arrive over Fast DDS",
        ("true", "false"),
    ),
    "respawn": (
        "false",
        "start the builder again if it ends: it goes on from its last checkpoint",
        ("true", "false"),
    ),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Creates the map builder."""
    refuse_unknown_arguments(__file__, ARGUMENTS)
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    image = values["image"]
    info = values["camera_info"] or join(dirname(image), "camera_info")
    remappings = {
        "image": image,
        "image/compressed": f"{image}/compressed",
        "camera_info": info,
        **{name: values[name] for name in ("pose", "odom", "fix")},
    }
    parameters = {n: ParameterValue(values[n], value_type=str) for n in ("output", "model")}
    parameters["use_sim_time"] = values["use_sim_time"] == "true"
    parameters |= {n: values[n] for n in ("image_transport", "pose_source") if values[n]}
    builder = Node(
        package="disam_ros",
        executable="map_builder_node",
        name="map_builder",
        namespace=values["namespace"],
        output="screen",
        parameters=[find_config(values["config"]), parameters],
        remappings=list(remappings.items()),
        ros_arguments=["--log-level", values["log_level"]],
        respawn=values["respawn"] == "true",
        respawn_delay=2.0,
        sigterm_timeout=STOP,
        sigkill_timeout=STOP,
    )
    if values["large_images"] != "true":
        return [builder]
    return [builder, *(SetEnvironmentVariable(*p) for p in missing_profile(os.environ).items())]


def generate_launch_description() -> LaunchDescription:
    """Returns what `ros2 launch` starts."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
