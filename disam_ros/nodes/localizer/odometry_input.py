# SPDX-License-Identifier: Apache-2.0
"""Odometry input: the topic odom with its faults reported."""

from __future__ import annotations

from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode

from disam_ros.config import LocalizerConfig
from disam_ros.errors import GeometryError
from disam_ros.localization.sequence.odometry import AHEAD, BACK, JUMP, OdometryTrack, Reading
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import sensor_qos

NS = 1_000_000_000
DEPTH = 50  # messages that may wait for the executor
FAULTS = {
    JUMP: "odometry jumped: the motion is unknown there",
    BACK: "stamps of odometry go backwards: it starts over",
    AHEAD: "a pose of odometry was stamped in the future and is left out",
}


class OdometryInput(Part):
    """Odometry over time; jumps, stamps that go backwards and silence are reported.

    frame_id: odometry's frame; empty before the first message.
    """

    def __init__(self, node: LifecycleNode, monitor: Monitor, config: LocalizerConfig) -> None:
        super().__init__(node, monitor)
        self.track = OdometryTrack.of_config(config)
        self.frame_id = ""
        self._subscriptions.add(Odometry, "odom", self._on_message, sensor_qos(depth=DEPTH))

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes the limits of motion."""
        self.track.configure(config.localizer)

    def at(self, stamp_ns: int | None) -> Reading | None:
        """Odometry at a stamp; None without any near it, reported if there was some before."""
        if stamp_ns is None:
            return None
        reading = self.track.reading(stamp_ns)
        if reading is not None:
            self._monitor.solved("odom age")
        elif self.frame_id:
            age = self.track.max_age_ns / NS
            text = f"odometry stopped: nothing on 'odom' within {age:g} s of the image"
            self._monitor.warn_once("odom age", text)
        return reading

    def _on_message(self, message: Odometry) -> None:
        try:
            odom_from_base = conversions.check_odometry(message)
        except GeometryError as error:
            text = f"odometry ignored: {error}"
            self._monitor.warn_once("odom", text)
            self._monitor.count("odometry refused")
            return
        self.frame_id = conversions.frame_of(message.header) or "odom"
        fault = self.track.move(conversions.stamp_to_ns(message.header), odom_from_base)
        if fault:
            self._monitor.warn_once("odom", FAULTS[fault])
            self._monitor.count("odometry faults")
