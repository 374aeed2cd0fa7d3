# SPDX-License-Identifier: Apache-2.0
"""Reports fixes far from the map: another town's map, or a wrong origin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from disam_ros.geodesy import Origin
from disam_ros.nodes import conversions
from disam_ros.nodes.diagnostics import Monitor

FAR = 1000.0  # from the nearest map image [m]
FACT, KEY = "fix from the map (m)", "fix"


class FixCheck:
    """origin: of the map; None: its place is unknown, nothing is checked. poses: of the map images
    [N, ≥ 2] [m]."""

    def __init__(
        self, node: Node, monitor: Monitor, origin: Origin | None, poses: NDArray[np.float64]
    ) -> None:
        self._node, self._monitor = node, monitor
        self.origin, self.poses = origin, poses

    def on_fix(self, message: NavSatFix) -> None:
        """A satellite fix."""
        origin, place = self.origin, conversions.place_of(message)
        if origin is None or place is None:
            return
        at = origin.enu_from_map.T @ origin.to_enu(*place)[:2]
        metres = float(np.linalg.norm(self.poses[:, :2] - at, axis=1).min())
        self._monitor.fact(FACT, f"{metres:.0f}")
        if metres <= FAR:
            self._monitor.solved(KEY)
            return
        text = (
            f"fixes lie more than {FAR / 1e3:g} km from every map image: load the map of this "
            "place, or set localizer.prior.origin_latitude and origin_longitude to its origin"
        )
        self._monitor.warn_once(self._node.get_logger(), KEY, text, hold=None)
