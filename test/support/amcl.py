# SPDX-License-Identifier: Apache-2.0
"""A stand-in for AMCL: no laser and no particles, but its topics, its checks and its trust in
odometry."""

from __future__ import annotations

from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.node import Node
from slam.consumer_rules import PublishedPose, problems

from disam_ros.geometry import Transform
from disam_ros.nodes import conversions


class StandInAmcl(Node):
    """Says nothing until its first initialpose; then its pose moves on with odometry.

    deaf: it takes none. starts: initial poses that it took. refused: why it did not take others.
    """

    def __init__(self, context: Context, frame: str = "town", deaf: bool = False) -> None:
        super().__init__("amcl", context=context)
        self._frame, self._deaf = frame, deaf
        self.starts: list[PoseWithCovarianceStamped] = []
        self.refused: list[str] = []
        self.map_from_odom: Transform | None = None
        self._odometry: Odometry | None = None
        kind = PoseWithCovarianceStamped
        self._publisher = self.create_publisher(kind, "amcl_pose", 10)
        self.create_subscription(kind, "initialpose", self._on_initial_pose, 10)
        self.create_subscription(Odometry, "odom", self._on_odometry, 100)

    @property
    def map_from_base(self) -> Transform:
        """Where it believes to be."""
        assert self.map_from_odom is not None and self._odometry is not None
        return self.map_from_odom @ conversions.check_odometry(self._odometry)

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        rules = {"global_frame_id": self._frame}
        self.refused += problems("amcl", PublishedPose.of(message), rules)
        if self.refused or self._deaf or self._odometry is None:
            return
        self.starts.append(message)
        odom_from_base = conversions.check_odometry(self._odometry)
        map_from_base = conversions.pose_to_transform(message.pose.pose)
        self.map_from_odom = map_from_base @ odom_from_base.inverse()

    def _on_odometry(self, message: Odometry) -> None:
        self._odometry = message
        if self.map_from_odom is None:
            return
        said = PoseWithCovarianceStamped(header=message.header)
        said.header.frame_id = self._frame
        said.pose.pose = conversions.transform_to_pose(self.map_from_base)
        said.pose.covariance[0] = said.pose.covariance[7] = 0.25
        said.pose.covariance[35] = 0.07
        self._publisher.publish(said)
