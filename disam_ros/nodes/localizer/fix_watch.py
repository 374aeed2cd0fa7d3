# SPDX-License-Identifier: Apache-2.0
"""Satellite fixes against maps: a vehicle that drove onto another one, fixes far from the map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import NavSatFix

from disam_ros.fixes import place_of
from disam_ros.geodesy import Origin
from disam_ros.localization.areas import Areas
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.loaded import Loaded, map_origin
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

FAR = 1000.0  # from the nearest map image [m]
FACT, KEY = "fix from the map (m)", "fix"


class AreaWatch:
    """Chooses the map that fixes lie on. directories: of all maps; without any nothing is watched.

    current: the map in use. switch: takes another. Raises DisamError for maps that cannot be used.
    """

    def __init__(
        self,
        node: LifecycleNode,
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


class FixCheck(Part):
    """Compares fixes with the map; nothing where its place on Earth is unknown."""

    def __init__(self, node: LifecycleNode, monitor: Monitor) -> None:
        super().__init__(node, monitor)
        self._origin: Origin | None = None
        self._poses: NDArray[np.float64] = np.zeros((0, 7))

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes the origin of the map, and the poses of its images [N, ≥ 2] [m]."""
        self._origin = map_origin(config.localizer.prior, loaded.header)
        self._poses = loaded.localizer.map.poses

    def on_fix(self, message: NavSatFix) -> None:
        """Takes a satellite fix."""
        origin, place = self._origin, place_of(message)
        if origin is None or place is None:
            return
        at = origin.enu_from_map.T @ origin.to_enu(*place)[:2]
        metres = float(np.linalg.norm(self._poses[:, :2] - at, axis=1).min())
        self._monitor.fact(FACT, f"{metres:.0f}")
        text = (
            f"fixes lie more than {FAR / 1e3:g} km from every map image: load the map of this "
            "place, or set localizer.prior.origin_latitude and origin_longitude to its origin"
        )
        self._monitor.lasting(KEY, text if metres > FAR else "")
