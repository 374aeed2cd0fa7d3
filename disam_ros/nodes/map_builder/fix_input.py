# SPDX-License-Identifier: Apache-2.0
"""The map's place on Earth from the topic fix, while the map is built."""

from __future__ import annotations

from collections import deque

from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from disam_ros.fixes import MapPlace, deviation_of, place_of
from disam_ros.nodes import conversions
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import Subscriptions, sensor_qos
from disam_ros.plausibility import LONGEST_NS
from disam_ros.pose_buffer import PoseBuffer

WAITING = 100  # fixes that wait for a later pose
COUNT, REFUSED = "fixes used", "fixes refused"


class FixInput:
    """Registers fixes to the poses of a track.

    deviation: of a fix without covariance [m]. newest: latitude and longitude [deg]
    of the last fix.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        subscriptions: Subscriptions,
        track: PoseBuffer,
        deviation: float,
    ) -> None:
        self._node, self._monitor, self._track = node, monitor, track
        self._deviation = deviation
        self.newest: tuple[float, float] | None = None
        self._waiting: deque[tuple[int, float, float, float]] = deque(maxlen=WAITING)
        self._place = MapPlace()
        monitor.start_counts(COUNT, REFUSED)
        subscriptions.add(NavSatFix, "fix", self._on_fix, sensor_qos())

    def add_posed(self) -> None:
        """Take the waiting fixes whose pose can be interpolated."""
        newest = self._track.newest
        if newest is None:
            return
        fixes = list(self._waiting)
        latest_ns = newest.stamp_ns + LONGEST_NS  # of a fix on the clock of the poses
        self._waiting.clear()
        self._waiting.extend(fix for fix in fixes if newest.stamp_ns < fix[0] <= latest_ns)
        self._monitor.count(REFUSED, sum(fix[0] > latest_ns for fix in fixes))
        for stamp_ns, latitude, longitude, variance in fixes:
            if stamp_ns > newest.stamp_ns:
                continue
            pose = self._track.at(stamp_ns)
            if pose is not None:
                self._place.add(latitude, longitude, pose.translation, variance)
                self._monitor.count(COUNT)

    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude [deg] of the map's origin, reported; None: unknown."""
        log = self._node.get_logger()
        registration, text = self._place.outcome()
        if registration is not None:
            log.info(text)
            return registration.origin.latitude, registration.origin.longitude
        if self._place.count:
            log.warning(f"the map gets no place on Earth: {text}; set latitude and longitude")
        else:
            log.info(f"the map gets no place on Earth: {text}")
        return None

    def _on_fix(self, message: NavSatFix) -> None:
        place = place_of(message)
        if place is None:
            self._monitor.count(REFUSED)
            return
        self.newest = place
        variance = deviation_of(message, self._deviation) ** 2
        self._waiting.append((conversions.stamp_to_ns(message.header), *place, variance))
        self.add_posed()
