# SPDX-License-Identifier: Apache-2.0
"""Options of poses that come from a file, or from fixes and odometry, in place of a bag's."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from disam_ros.cli.arguments import add_setting, number
from disam_ros.errors import ConfigError
from disam_ros.node_config import MapBuilderNodeConfig

if TYPE_CHECKING:
    from disam_ros.datasets.bags.fixes import FixPoses
    from disam_ros.datasets.bags.trajectory import GivenTrajectory

FIX_POSES = ("fix+odometry", "fix+odometry+imu")
GAP = MapBuilderNodeConfig.max_pose_gap  # s between two poses


def add_trajectory(command: argparse.ArgumentParser) -> None:
    """The options of poses from a file in place of the bag's."""
    given = command.add_argument_group("poses from a file in place of the bag's (docs/mapping.md)")
    given.add_argument(
        "--trajectory",
        default="",
        help="TUM, KITTI, EuRoC, a table of latitude and longitude, or a solution of RTKLIB",
    )
    given.add_argument(
        "--trajectory-frame",
        default="",
        help="whose poses they are: a frame of /tf_static or a camera; default: the vehicle's base",
    )
    given.add_argument(
        "--time-offset",
        type=_offset,
        default=0.0,
        metavar="SECONDS",
        help="to add to its stamps; auto: found by the turns in the bag's odometry (default: 0)",
    )
    given.add_argument(
        "--trajectory-origin",
        type=number(-180.0, 180.0),
        nargs=2,
        metavar=("LATITUDE", "LONGITUDE"),
        help="of the map frame of a table or of fixes [°]; default: the first",
    )
    given.add_argument(
        "--poses",
        choices=FIX_POSES,
        default="",
        help="smooth the bag's fixes and odometry, with turns by its IMU or without, into poses",
    )
    add_setting(given, MapBuilderNodeConfig, "max_pose_gap", unset=f"{GAP:g}")


def trajectory_of(arguments: argparse.Namespace) -> GivenTrajectory | FixPoses | None:
    """What `add_trajectory` asked for; None: the bag's poses. Raises DisamError."""
    if arguments.poses:
        return _fix_poses(arguments)
    if not arguments.trajectory:
        if arguments.trajectory_frame or arguments.trajectory_origin or arguments.time_offset != 0:
            raise ConfigError(
                "--trajectory-frame, --trajectory-origin and --time-offset need --trajectory"
            )
        return None
    from disam_ros.datasets.bags.trajectory import GivenTrajectory
    from disam_ros.datasets.trajectories import read_trajectory
    from disam_ros.geodesy import Origin

    if arguments.pose_topic:
        raise ConfigError("--pose-topic and --trajectory exclude each other: drop one")
    origin = arguments.trajectory_origin and Origin(*arguments.trajectory_origin)
    trajectory = read_trajectory(arguments.trajectory, origin)
    return GivenTrajectory(trajectory, arguments.trajectory_frame, arguments.time_offset)


def _fix_poses(arguments: argparse.Namespace) -> FixPoses:
    from disam_ros.datasets.bags.fixes import FixPoses
    from disam_ros.geodesy import Origin

    given = arguments.trajectory or arguments.trajectory_frame or arguments.pose_topic
    if given or arguments.time_offset != 0:
        raise ConfigError(
            "--poses takes the bag's own fixes and odometry: drop --pose-topic and --trajectory"
        )
    origin = arguments.trajectory_origin and Origin(*arguments.trajectory_origin)
    gap = GAP if arguments.max_pose_gap is None else arguments.max_pose_gap
    return FixPoses(arguments.poses == FIX_POSES[1], origin, gap)


def _offset(text: str) -> float | None:
    """Seconds; None: auto."""
    return None if text == "auto" else number(-1e10, 1e10)(text)
