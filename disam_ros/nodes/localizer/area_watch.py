# SPDX-License-Identifier: Apache-2.0
"""Takes another map when fixes say that the vehicle drove onto it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from disam_ros.localization.areas import Areas
from disam_ros.nodes import conversions
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.subscriptions import sensor_qos, subscribe


class AreaWatch:
    """directories: maps to choose from; none of them: nothing is watched.

    current: the map in use. switch: takes another. Raises DisamError for maps that cannot be used.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        directories: Sequence[str],
        current: Callable[[], str],
        switch: Callable[[str], None],
    ) -> None:
        self._node, self._current, self._switch = node, current, switch
        self._subscription = None
        wanted = [directory for directory in directories if directory]
        if wanted:
            self._areas = Areas(wanted)
            monitor.fact("areas", ", ".join(wanted))
            on_fix = self._on_fix
            self._subscription = subscribe(node, NavSatFix, "fix", on_fix, monitor, sensor_qos())

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def _on_fix(self, message: NavSatFix) -> None:
        place = conversions.place_of(message)
        if place is None:
            return
        current = self._current()
        if (wanted := self._areas.choose(*place, current)) != current:
            self._node.get_logger().info(f"fixes lie on the map {wanted}: taking it")
            self._switch(wanted)
