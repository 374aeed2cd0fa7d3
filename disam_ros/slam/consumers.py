# SPDX-License-Identifier: Apache-2.0
"""Stacks that take our poses: topics and parameters of the localizer for each, for launch files.

Parameters of the stack itself are in config/consumers/. Relative topics are in the localizer's
namespace. Imports nothing: the interpreter of `ros2 launch` may lack other packages.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Consumer:
    """What a stack asks of the localizer."""

    remappings: dict[str, str] = field(default_factory=dict)  # the localizer's topic → the stack's
    parameters: dict[str, object] = field(default_factory=dict)  # of the localizer


_AMCL = Consumer(
    {"~/initial_pose": "initialpose", "consumer_pose": "amcl_pose"}, {"initialize": "once"}
)
CONSUMERS = {
    "amcl": _AMCL,
    "autoware": Consumer(  # the pose initializer starts from the GNSS slot
        {
            "~/pose_with_covariance": "/sensing/gnss/pose_with_covariance",
            "~/initial_pose": "/initialpose",
        }
    ),
    "map_odom_tf": Consumer(parameters={"publish_tf": True}),
    "nav2": _AMCL,
    "robot_localization": Consumer(),  # its pose0 names our topic
    "rtabmap": Consumer(
        {
            "~/global_pose": "rtabmap/global_pose",
            "~/initial_pose": "rtabmap/initialpose",
            "consumer_pose": "rtabmap/localization_pose",
        }
    ),
    "slam_toolbox": Consumer(
        {"~/initial_pose": "initialpose", "consumer_pose": "pose"}, {"initialize": "once"}
    ),
}
