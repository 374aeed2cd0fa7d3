# SPDX-License-Identifier: Apache-2.0
"""TF map → odom, for stacks in which no other node publishes it."""

from __future__ import annotations

import importlib

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

from disam_ros.geometry import Transform
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.pose_buffer import NANOSECONDS

DEPTH = 100
MISSING = "publish_tf needs the ROS package tf2_msgs, which is not installed: no TF is published"
NO_ODOMETRY = "publish_tf needs odometry at the image's time on 'odom': no TF is published"


class MapOdom(Part):
    """Broadcasts on /tf, if enabled. tolerance: seconds after the image for which it holds."""

    def __init__(
        self, node: LifecycleNode, monitor: Monitor, enabled: bool, tolerance: float
    ) -> None:
        super().__init__(node, monitor)
        self._tolerance_ns = round(NANOSECONDS * tolerance)
        self._tf: LifecyclePublisher | None = None
        if not enabled:
            return
        try:
            self._kind = importlib.import_module("tf2_msgs.msg").TFMessage
        except ImportError:
            monitor.lasting("tf", MISSING)
            return
        self._tf = self._publisher(self._kind, "/tf", DEPTH)

    def publish(
        self,
        map_from_base: Transform,
        reading: Reading | None,
        stamp_ns: int | None,
        frames: tuple[str, str],
    ) -> None:
        """A pose was published. frames: names of map and odometry."""
        if self._tf is None:
            return
        if reading is None or stamp_ns is None:
            self._monitor.warn_once("tf odometry", NO_ODOMETRY)
            return
        transform = map_from_base @ reading.odom_from_base.inverse()
        message = transform_stamped(transform, stamp_ns + self._tolerance_ns, frames)
        self._tf.publish(self._kind(transforms=[message]))


def transform_stamped(
    transform: Transform, stamp_ns: int, frames: tuple[str, str]
) -> TransformStamped:
    """`a_from_b` as the TF a → b. frames: the names of a and b."""
    message = TransformStamped(child_frame_id=frames[1])
    message.header.frame_id = frames[0]
    message.header.stamp = Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)
    x, y, z = transform.translation.tolist()
    message.transform.translation = Vector3(x=x, y=y, z=z)
    qx, qy, qz, qw = transform.quaternion.tolist()
    message.transform.rotation = Quaternion(x=qx, y=qy, z=qz, w=qw)
    return message
