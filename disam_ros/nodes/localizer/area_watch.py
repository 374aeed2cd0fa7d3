# SPDX-License-Identifier: Apache-2.0
"""Switches to another map when fixes show that the vehicle drove onto it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from disam_ros.fixes import place_of
from disam_ros.localization.areas import Areas
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor


class AreaWatch:
    """Chooses the map that fixes lie on. directories: of all maps; without any nothing is watched.

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
        named = [directory for directory in directories if directory]
        self._areas = Areas(named) if named else None
        if named:
            monitor.fact("areas", ", ".join(named))

    def on_fix(self, message: NavSatFix) -> None:
        """Takes a satellite fix."""
        place = place_of(message)
        if self._areas is None or place is None:
            return
        current = self._current()
        if (chosen := self._areas.choose(*place, current)) != current:
            self._node.get_logger().info(f"fixes lie on the map {chosen}: switching to it")
            self._switch(chosen)
