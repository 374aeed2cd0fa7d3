# SPDX-License-Identifier: Apache-2.0
"""The map's place on Earth from the topic fix, while the map is built."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from disam_ros.errors import PriorError
from disam_ros.nodes import conversions
from disam_ros.nodes.map_builder.map_place import UNKNOWN_DEVIATION, MapPlace, Registration
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import Subscriptions, sensor_qos
from disam_ros.pose_buffer import PoseBuffer

WAITING = 100  # fixes that wait for a later pose
LARGEST_DEVIATION = 30.0  # of fixes from the poses, above which one of them is wrong [m]
LEAST_YAW = 0.02  # of the map's x axis from east that is reported [rad]
COUNT = "fixes used"


class FixInput:
    """Registers fixes to the poses of a track. newest: latitude and longitude [deg] of the last."""

    def __init__(
        self, node: Node, monitor: Monitor, subscriptions: Subscriptions, track: PoseBuffer
    ) -> None:
        self._node, self._monitor, self._track = node, monitor, track
        self.newest: tuple[float, float] | None = None
        self._waiting: deque[tuple[int, float, float, float]] = deque(maxlen=WAITING)
        self._place = MapPlace()
        monitor.start_counts(COUNT)
        subscriptions.add(NavSatFix, "fix", self._on_fix, sensor_qos())

    def add_posed(self) -> None:
        """Take the waiting fixes whose pose can be interpolated."""
        newest = self._track.newest
        while newest is not None and self._waiting and self._waiting[0][0] <= newest.stamp_ns:
            stamp_ns, latitude, longitude, variance = self._waiting.popleft()
            pose = self._track.at(stamp_ns)
            if pose is not None:
                self._place.add(latitude, longitude, pose.translation, variance)
                self._monitor.count(COUNT)

    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude [deg] of the map's origin, reported; None: unknown."""
        log, registration = self._node.get_logger(), self._place.register()
        if fault := self._fault(registration):
            log.warning(f"the map gets no place on Earth: {fault}; set latitude and longitude")
            return None
        if registration is None:
            log.info("the map gets no place on Earth: no fix came with a pose")
            return None
        origin, text = registration.origin, ""
        if not registration.axes:
            text = "; the drive is too short for the direction of its axes: taken as east, north"
        elif abs(origin.yaw) > LEAST_YAW:
            text = (
                f"; its x axis is {math.degrees(origin.yaw):.1f}° north of east: set "
                f"localizer.prior.origin_yaw of the localizer to {origin.yaw:.4f}"
            )
        place = f"{origin.latitude:.6f}, {origin.longitude:.6f}"
        log.info(f"the map's origin is at latitude, longitude {place}{text}")
        return origin.latitude, origin.longitude

    def _fault(self, registration: Registration | None) -> str:
        """What is wrong with the fixes; empty: nothing, or there are none."""
        if registration is None and self._place.count:
            return "the origin of the poses lies more than 100 km from the fixes"
        if registration is not None and registration.deviation > LARGEST_DEVIATION:
            return (
                f"fixes lie {registration.deviation:.0f} m (root mean square) from the "
                "poses; are these metres, and does the receiver see the sky?"
            )
        return ""

    def _on_fix(self, message: NavSatFix) -> None:
        place = conversions.place_of(message)
        if place is None:
            return
        self.newest, variance = place, UNKNOWN_DEVIATION**2
        try:
            measured = float(np.trace(conversions.fix_covariance(message)) / 2)
            variance = measured if math.isfinite(measured) and measured > 0 else variance
        except PriorError:  # its covariance is unknown
            pass
        self._waiting.append((conversions.stamp_to_ns(message.header), *place, variance))
        self.add_posed()
