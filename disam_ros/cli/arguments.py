# SPDX-License-Identifier: Apache-2.0
"""Types of options: a value that cannot be is refused before any work, with what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from disam_ros.errors import ConfigError, DomainError
from disam_ros.node_config import LocalizerNodeConfig

if TYPE_CHECKING:
    from disam_ros.datasets.bags.fixes import FixPoses
    from disam_ros.datasets.bags.trajectory import GivenTrajectory

SEED = 2**32 - 1  # the largest that every random generator takes
LARGEST_SIDE = 4096  # of a network's images [px]
SIDE = 8192  # of an image that is rendered [px]
FIX_POSES = ("fix+odometry", "fix+odometry+imu")
GAP = 0.5  # s between two poses
MODEL_HELP = "model directory, or the name of a shipped model, such as outdoor"


def number(low: float, high: float) -> Callable[[str], float]:
    """A finite number in [low, high]."""

    def parse(text: str) -> float:
        return _in_range(float, text, low, high, "a number")

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number in [low, high]."""

    def parse(text: str) -> int:
        return _in_range(int, text, low, high, "a whole number")

    return parse


def of_setting(config: type, name: str) -> Callable[[str], Any]:
    """A number in the range of a field of a config dataclass."""
    (metadata,) = (field.metadata for field in fields(config) if field.name == name)
    make = whole if isinstance(getattr(config(), name), int) else number
    return make(metadata["minimum"], metadata["maximum"])


def add_image_limit(command: argparse.ArgumentParser) -> None:
    """The option --max-megapixels of a command that reads images."""
    command.add_argument(
        "--max-megapixels",
        type=of_setting(LocalizerNodeConfig, "max_megapixels"),
        default=LocalizerNodeConfig.max_megapixels,
        help="size of an image above which it is refused [megapixels]",
    )


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
    given.add_argument(
        "--max-pose-gap",
        type=number(0.0, 3600.0),
        help=f"longest time between two poses across which is interpolated [s]; default: {GAP:g}",
    )


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


def weather(text: str) -> str:
    """A weather word or phrase."""
    from disam_ros.domains.sun import parse_weather

    try:
        parse_weather(text)
    except DomainError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _in_range(kind: type, text: str, low: float, high: float, what: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:  # nan neither
        bounds = " to ".join(str(v) if isinstance(v, int) else f"{v:g}" for v in (low, high))
        raise argparse.ArgumentTypeError(f"expected {what} from {bounds}, got '{text[:40]}'")
    return value
