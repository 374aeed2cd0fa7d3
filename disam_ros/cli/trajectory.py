# SPDX-License-Identifier: Apache-2.0
"""Options of poses from a file, or from fixes and odometry, in place of a bag's."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from disam_ros.cli.arguments import add, add_setting, number
from disam_ros.errors import ConfigError
from disam_ros.node_config import MapBuilderNodeConfig

if TYPE_CHECKING:
    from disam_ros.datasets.bags.pose_sources import PoseSource

FIX_POSES = ("fix+odometry", "fix+odometry+imu")


def add_trajectory(command: argparse.ArgumentParser) -> None:
    """Adds the options of poses from a file in place of the bag's."""
    group = command.add_argument_group("poses from a file in place of the bag's (docs/mapping.md)")
    text = "TUM, KITTI, EuRoC, a table by its header, or a solution of RTKLIB"
    add(group, "--trajectory", text)
    text = "whose poses they are: a frame of /tf_static or a camera; default: the vehicle's base"
    add(group, "--trajectory-frame", text)
    text = "to add to its stamps; auto: found by the turns in the bag's odometry (default: 0)"
    add(group, "--time-offset", text, _offset, default=0.0, metavar="SECONDS")
    text = "of the map frame of a table or of fixes [°]; default: the first"
    names = ("LATITUDE", "LONGITUDE")
    add(group, "--trajectory-origin", text, number(-180.0, 180.0), nargs=2, metavar=names)
    text = "smooth the bag's fixes and odometry, with turns by its IMU or without, into poses"
    add(group, "--poses", text, choices=FIX_POSES)
    add_setting(group, MapBuilderNodeConfig, "fix_deviation")
    add_setting(
        group, MapBuilderNodeConfig, "max_pose_gap", unset=f"{MapBuilderNodeConfig.max_pose_gap:g}"
    )


def poses_of(arguments: argparse.Namespace) -> PoseSource:
    """Returns the source of a bag's poses that the options name. Raises DisamError."""
    from disam_ros.datasets.bags.fixes import FixPoses
    from disam_ros.datasets.bags.pose_sources import FilePoses, TopicPoses
    from disam_ros.datasets.trajectories import read_trajectory
    from disam_ros.geodesy import Origin

    frame, offset = arguments.trajectory_frame, arguments.time_offset
    origin = arguments.trajectory_origin and Origin(*arguments.trajectory_origin)
    if arguments.poses:
        if arguments.trajectory or frame or arguments.pose_topic or offset != 0:
            raise ConfigError(
                "--poses takes the bag's own fixes and odometry: drop --pose-topic and --trajectory"
            )
        return FixPoses(
            arguments.poses == FIX_POSES[1], origin, max_gap_of(arguments), arguments.fix_deviation
        )
    if arguments.trajectory:
        if arguments.pose_topic:
            raise ConfigError("--pose-topic and --trajectory exclude each other: drop one")
        return FilePoses(read_trajectory(arguments.trajectory, origin), frame, offset)
    if frame or origin or offset != 0:
        raise ConfigError(
            "--trajectory-frame, --trajectory-origin and --time-offset need --trajectory"
        )
    return TopicPoses(arguments.pose_topic)


def max_gap_of(arguments: argparse.Namespace) -> float:
    """Returns the longest time between two poses [s] that the options name."""
    gap: float | None = arguments.max_pose_gap
    return MapBuilderNodeConfig.max_pose_gap if gap is None else gap


def _offset(text: str) -> float | None:
    """Parses seconds; None stands for auto."""
    return None if text == "auto" else number(-1e10, 1e10)(text)
