# SPDX-License-Identifier: Apache-2.0
"""Starts the localizer and, on request, RViz."""

import os
from posixpath import dirname, join

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from disam_ros.files.paths import find_config, missing_profile
from disam_ros.nodes.launching import refuse_unknown_arguments
from disam_ros.slam.consumers import CONSUMERS, Consumer

STOP = "60"  # seconds from one signal to the next, stronger one
BOOLEANS, UNSET = ("", "true", "false"), "; empty: as in config"

# name: (default, None where required; description; choices, None: any)
ARGUMENTS = {
    "map": (None, "map directory", None),
    "model": (
        None,
        "model directory the map was built with, or the name of a shipped one",
        None,
    ),
    "config": ("cpu_robot", "parameter file, or the name of one of those in config/", None),
    "consumer": (
        "",
        "stack that takes the poses: sets topics and initialize (docs/slam.md); empty: none",
        ("", *CONSUMERS),
    ),
    "initialize": (
        "",
        "when that stack gets an initial pose" + UNSET + ", or as suits the consumer",
        ("", "never", "once", "recover"),
    ),
    "cameras": ("", "names of the cameras, as in front,rear" + UNSET, None),
    "image": ("image", "image topic; of several cameras: theirs, separated by commas", None),
    "camera_info": ("", "their camera_info topics; empty: camera_info beside each image", None),
    "image_transport": ("", "image transport" + UNSET, ("", "raw", "compressed")),
    "odom": ("odom", "Odometry topic", None),
    "fix": ("fix", "NavSatFix topic", None),
    "weather": ("weather", "String topic of weather words", None),
    "prior": ("prior", "PoseWithCovarianceStamped topic of position priors", None),
    "publish_tf": ("", "broadcast TF map -> odom" + UNSET, BOOLEANS),
    "autostart": ("", "configure and activate at start" + UNSET, BOOLEANS),
    "namespace": ("", "namespace of the node and its relative topics", None),
    "use_sim_time": ("false", "take the time from /clock", BOOLEANS[1:]),
    "log_level": ("info", "least severity that is logged", ("debug", "info", "warn", "error")),
    "respawn": ("false", "start the localizer again if it ends", BOOLEANS[1:]),
    "large_images": (
        "false",
        "nodes that are launched after it, such as a camera driver, get 32 MB of shared memory "
        "each, with which their raw images arrive over Fast DDS",
        BOOLEANS[1:],
    ),
    "rviz": ("false", "show it in RViz", BOOLEANS[1:]),
}


def words(text: str) -> list[str]:
    """Splits words separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def camera_topics(cameras: list[str], images: list[str], infos: list[str]) -> dict[str, str]:
    """Returns remappings of the cameras' topics. Raises ValueError if their numbers differ."""
    infos = infos or [join(dirname(image), "camera_info") for image in images]
    if len(cameras) > 1 and images == ["image"]:
        return {}  # NAME/image of each
    if not len(images) == len(infos) == max(len(cameras), 1):
        raise ValueError(
            f"image names {len(images)} and camera_info {len(infos)} topics for "
            f"{max(len(cameras), 1)} cameras: name as many, with their names, as in "
            "cameras:=left,right image:=/left/image_raw,/right/image_raw"
        )
    prefixes = [f"{name}/" for name in cameras] if len(cameras) > 1 else [""]
    remappings = {}
    for prefix, image, info in zip(prefixes, images, infos, strict=True):
        remappings[f"{prefix}image"] = image
        remappings[f"{prefix}image/compressed"] = f"{image}/compressed"
        remappings[f"{prefix}camera_info"] = info
    return remappings


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Creates the localizer, and RViz on request if it is installed."""
    refuse_unknown_arguments(__file__, ARGUMENTS)
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    consumer = CONSUMERS.get(values["consumer"], Consumer())
    cameras = words(values["cameras"])
    remappings = camera_topics(cameras, words(values["image"]), words(values["camera_info"]))
    remappings |= {name: values[name] for name in ("odom", "fix", "weather", "prior")}
    parameters = {name: ParameterValue(values[name], value_type=str) for name in ("map", "model")}
    parameters["use_sim_time"] = values["use_sim_time"] == "true"
    parameters |= consumer.parameters
    parameters |= {n: values[n] for n in ("image_transport", "initialize") if values[n]}
    parameters |= {n: values[n] == "true" for n in ("autostart", "publish_tf") if values[n]}
    if cameras:
        parameters["cameras"] = cameras
    localizer = Node(
        package="disam_ros",
        executable="localizer_node",
        name="localizer",
        namespace=values["namespace"],
        output="screen",
        parameters=[find_config(values["config"]), parameters],
        remappings=list({**remappings, **consumer.remappings}.items()),
        ros_arguments=["--log-level", values["log_level"]],
        respawn=values["respawn"] == "true",
        respawn_delay=2.0,
        sigterm_timeout=STOP,
        sigkill_timeout=STOP,
    )
    started = [localizer]
    if values["large_images"] == "true":
        started += [SetEnvironmentVariable(*pair) for pair in missing_profile(os.environ).items()]
    if not IfCondition(values["rviz"]).evaluate(context):
        return started
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        text = "rviz2 is not installed: the localizer runs without it"
        return [*started, LogInfo(msg=text)]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", find_config("relocalization.rviz")],
        parameters=[{"use_sim_time": parameters["use_sim_time"]}],
    )
    return [*started, rviz]


def generate_launch_description() -> LaunchDescription:
    """Returns what `ros2 launch` starts."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
