# SPDX-License-Identifier: Apache-2.0
"""Would the consumer take the pose? Told in diagnostics; nothing is held back."""

from __future__ import annotations

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node

from disam_ros.config import LocalizerNodeConfig
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.slam.consumers import PublishedPose, problems, set_up

KEY = "consumer"
BY_ROBOT_FRAME = "rtabmap"  # takes ~/global_pose; all others ~/pose_with_covariance


class ConsumerCheck:
    """Checks each pose against the rules of the consumer that the parameters name."""

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor

    def look(
        self,
        config: LocalizerNodeConfig,
        pose: PoseWithCovarianceStamped,
        global_pose: PoseWithCovarianceStamped,
    ) -> None:
        """What was published of an image."""
        if (consumer := config.consumer) == "none":
            self._monitor.solved(KEY)
            return
        taken = PublishedPose.of(global_pose if consumer == BY_ROBOT_FRAME else pose)
        broken = problems(consumer, taken, set_up(consumer, config.consumer_map_frame))
        if not broken:
            self._monitor.solved(KEY)
        elif self._monitor.problem(KEY, broken[0], hold=None):
            self._node.get_logger().warning(broken[0])
