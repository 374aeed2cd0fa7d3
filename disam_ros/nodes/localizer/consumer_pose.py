# SPDX-License-Identifier: Apache-2.0
"""The consumer's own pose: the topic consumer_pose, else TF map → base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from disam_ros.errors import GeometryError
from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.nodes import conversions
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import Subscriptions
from disam_ros.nodes.tf import Tf
from disam_ros.slam.agreement import StampedPose

TOPIC = "consumer_pose"


class ConsumerPose:
    """Keeps the newest pose of the consumer. tf: None: TF is not asked."""

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        track: OdometryTrack,
        tf: Tf | None,
        base_frame: str,
    ) -> None:
        self._node, self._monitor, self._track, self._tf = node, monitor, track, tf
        self._map_frame, self._base_frame = "", base_frame
        self._heard: StampedPose | None = None
        qos = QoSProfile(depth=10)
        self._subscriptions = Subscriptions(node, monitor)
        self._subscriptions.add(PoseWithCovarianceStamped, TOPIC, self._on_pose, qos)

    def destroy(self) -> None:
        """Unsubscribe."""
        self._subscriptions.destroy()

    def adopt(self, map_frame: str) -> None:
        """Takes the frame of a map's poses, and forgets the pose on the last one."""
        self._map_frame, self._heard = map_frame, None

    def at(self, stamp_ns: int) -> StampedPose | None:
        """The newest one, with the odometry at its own stamp. stamp_ns: when TF is asked."""
        heard = self._heard
        if heard is not None:  # it may have come before the odometry of its stamp
            return replace(heard, odometry=self._track.reading(heard.stamp_ns) or heard.odometry)
        if self._tf is None:
            return None
        try:
            pose, pose_ns = self._tf.look_up(self._map_frame, self._base_frame, stamp_ns)
        except (LookupError, GeometryError):
            return None
        return self._stamped(pose_ns, pose, np.zeros((6, 6)))

    def _stamped(
        self, stamp_ns: int, pose: Transform, covariance: NDArray[np.float64]
    ) -> StampedPose:
        consumer_pose = PoseWithCovariance(pose, covariance)
        return StampedPose(stamp_ns, consumer_pose, self._track.reading(stamp_ns))

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        frame = conversions.frame_of(message.header)
        try:
            if frame != self._map_frame:
                raise GeometryError(
                    f"its frame is '{frame}', expected '{self._map_frame}': give the consumer that "
                    "name for its map, or remap consumer_pose to another topic"
                )
            pose = conversions.pose_to_transform(message.pose.pose)
        except GeometryError as error:
            text = f"a pose on {self._node.resolve_topic_name(TOPIC)} is not used: {error}"
            self._monitor.warn_once(TOPIC, text)
            return
        self._monitor.solved(TOPIC)
        stamp_ns = conversions.stamp_to_ns(message.header)
        self._heard = self._stamped(stamp_ns, pose, conversions.covariance_of(message))
