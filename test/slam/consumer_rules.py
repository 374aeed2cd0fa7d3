# SPDX-License-Identifier: Apache-2.0
"""Acceptance rules of downstream nodes (docs/slam.md).

Each rule is what the consumer's source does with a PoseWithCovarianceStamped and with its own
parameters, as nested dictionaries of its parameter file (config/consumers/). It returns the
problems in words; none: the pose is accepted and understood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_COVARIANCE = 1e9  # largest covariance element that nav2 accepts
NORM_TOLERANCE = 1e-4  # nav2: by how much the norm of a quaternion may differ from 1
AXES = ("x", "y", "z", "roll", "pitch", "yaw")
NEEDED = (0, 1, 5)  # of them, for a pose on the ground


@dataclass(frozen=True)
class PublishedPose:
    """A PoseWithCovarianceStamped. covariance: 36 numbers, row by row."""

    stamp_ns: int
    frame_id: str
    position: tuple[float, ...]
    quaternion: tuple[float, ...]
    covariance: tuple[float, ...]

    @classmethod
    def of(cls, message: Any) -> PublishedPose:
        """From a message, or anything with its fields."""
        header, pose = message.header, message.pose.pose
        return cls(
            stamp_ns=header.stamp.sec * 1_000_000_000 + header.stamp.nanosec,
            frame_id=header.frame_id,
            position=tuple(getattr(pose.position, axis) for axis in "xyz"),
            quaternion=tuple(getattr(pose.orientation, axis) for axis in "xyzw"),
            covariance=tuple(message.pose.covariance),
        )


Rule = Callable[[PublishedPose, Mapping[str, Any]], list[str]]


def problems(consumer: str, pose: PublishedPose, parameters: Mapping[str, Any]) -> list[str]:
    """Why a consumer would refuse or misread a pose. parameters: its own."""
    return [f"{consumer}: {text}" for text in CONSUMERS[consumer](pose, parameters)]


def malformed(pose: PublishedPose) -> list[str]:
    """Faults that every consumer refuses."""
    result = []
    if pose.stamp_ns <= 0:
        result.append("the stamp is 0; expected the time of the image")
    if not pose.frame_id:
        result.append("frame_id is empty")
    if not np.isfinite([*pose.position, *pose.quaternion, *pose.covariance]).all():
        return [*result, "a number is not finite"]
    norm = float(np.linalg.norm(pose.quaternion))
    if abs(norm - 1.0) > NORM_TOLERANCE:
        result.append(f"the quaternion's norm is {norm:.6f}; expected 1 within {NORM_TOLERANCE:g}")
    matrix = np.reshape(pose.covariance, (6, 6))
    if not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] <= 0:
        result.append("the covariance is singular or none: expected symmetric, positive definite")
    return result


def amcl(pose: PublishedPose, parameters: Mapping[str, Any]) -> list[str]:
    """nav2_amcl, topic initialpose: frame compared as text, validate_messages.hpp for the rest."""
    result = malformed(pose) + _frame(pose, parameters.get("global_frame_id", "map"))
    lowest, highest = min(pose.covariance), max(pose.covariance)
    if lowest < 0:
        result.append(f"a covariance element is {lowest:g}; negative ones are refused, anywhere")
    if highest > MAX_COVARIANCE:
        result.append(f"a covariance element is {highest:g}; refused above {MAX_COVARIANCE:g}")
    return result


def robot_localization(pose: PublishedPose, parameters: Mapping[str, Any]) -> list[str]:
    """ekf_node, input pose0: absolute poses belong in the instance whose world is the map."""
    result = malformed(pose) + _frame(pose, parameters.get("map_frame", "map"))
    if parameters.get("world_frame") != parameters.get("map_frame", "map"):
        result.append("world_frame is not map_frame: fuse a global pose in the map's instance only")
    fused = parameters.get("pose0_config", [False] * 15)
    if missing := [AXES[i] for i in NEEDED if not fused[i]]:
        result.append(f"pose0_config does not fuse {', '.join(missing)}")
    for kind in ("differential", "relative"):
        if parameters.get(f"pose0_{kind}"):
            result.append(f"pose0_{kind} is true: the place itself would be thrown away")
    return result


def rtabmap(pose: PublishedPose, parameters: Mapping[str, Any]) -> list[str]:
    """rtabmap_ros, topic global_pose: frame_id names the sensor on the robot that measured."""
    result = malformed(pose)
    if pose.frame_id == parameters.get("map_frame_id", "map"):
        result.append(
            f"frame_id is '{pose.frame_id}'; expected the frame on the robot that the pose is of, "
            f"such as '{parameters.get('frame_id', 'base_link')}'"
        )
    if str(parameters.get("Optimizer/PriorsIgnored", "true")).lower() != "false":
        result.append("Optimizer/PriorsIgnored is true, its default: global poses have no effect")
    return result


def autoware(pose: PublishedPose, parameters: Mapping[str, Any]) -> list[str]:
    """Autoware's slot /sensing/gnss/pose_with_covariance, and its service to initialize."""
    result = malformed(pose) + _frame(pose, "map")
    if not parameters.get("gnss_enabled", True):
        result.append("gnss_enabled is false: the slot that our poses fill is not read")
    return result


def slam_toolbox(pose: PublishedPose, parameters: Mapping[str, Any]) -> list[str]:
    """slam_toolbox, topic initialpose: frame and covariance are not read."""
    result = malformed(pose) + _frame(pose, parameters.get("map_frame", "map"))
    if parameters.get("mode") != "localization":
        result.append("mode is not 'localization': initial poses are not taken while mapping")
    return result


CONSUMERS: dict[str, Rule] = {
    "amcl": amcl,
    "robot_localization": robot_localization,
    "rtabmap": rtabmap,
    "autoware": autoware,
    "slam_toolbox": slam_toolbox,
}


def _frame(pose: PublishedPose, expected: str) -> list[str]:
    if pose.frame_id == expected:
        return []
    return [f"frame_id is '{pose.frame_id}'; expected '{expected}', letter by letter"]
