# SPDX-License-Identifier: Apache-2.0
"""The topic odom: the vehicle's motion, and what is wrong with it."""

from __future__ import annotations

from nav_msgs.msg import Odometry
from rclpy.node import Node

from disam_ros.config import LocalizerNodeConfig
from disam_ros.errors import GeometryError
from disam_ros.localization.odometry import BACK, JUMP, OdometryTrack, Reading
from disam_ros.nodes import conversions
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.subscriptions import sensor_qos, subscribe

NS = 1_000_000_000
FAULTS = {
    JUMP: "odometry jumped: the motion is unknown there",
    BACK: "stamps of odometry go backwards: it begins anew",
}


class OdometryInput:
    """Poses of odometry over time. Jumps, stamps that go backwards and silence are told.

    frame_id: the frame that odometry is in; empty before the first message.
    """

    def __init__(self, node: Node, monitor: Monitor, config: LocalizerNodeConfig) -> None:
        self._node, self._monitor = node, monitor
        self.track = OdometryTrack(0)
        self.configure(config)
        self.frame_id = ""
        kind, qos = Odometry, sensor_qos()
        self._subscription = subscribe(node, kind, "odom", self._on_message, monitor, qos)

    def configure(self, config: LocalizerNodeConfig) -> None:
        """Take settings that changed."""
        self.track.max_age_ns = round(NS * config.localizer.prior.max_age)
        self.track.max_speed = config.odometry_max_speed

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def at(self, stamp_ns: int | None) -> Reading | None:
        """Odometry at a moment; None where there is none near it, which is told if there was any
        before."""
        if stamp_ns is None:
            return None
        found = self.track.reading(stamp_ns)
        if found is not None:
            self._monitor.solved("odom age")
        elif self.frame_id:
            age = self.track.max_age_ns / NS
            self._tell(
                "odom age", f"odometry stopped: nothing on 'odom' within {age:g} s of the image"
            )
        return found

    def _on_message(self, message: Odometry) -> None:
        try:
            odom_from_base = conversions.check_odometry(message)
        except GeometryError as error:
            self._monitor.count("odometry refused")
            self._tell("odom", f"odometry ignored: {error}")
            return
        self.frame_id = message.header.frame_id or "odom"
        fault = self.track.move(conversions.stamp_to_ns(message.header), odom_from_base)
        if fault:
            self._monitor.count("odometry faults")
            self._tell("odom", FAULTS[fault])

    def _tell(self, key: str, text: str) -> None:
        if self._monitor.problem(key, text):
            self._node.get_logger().warning(text)
