# SPDX-License-Identifier: Apache-2.0
"""Checks of the input, reported in log and diagnostics: stamps, repeated images, field of view."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from disam_ros.camera import Camera
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer
from disam_ros.nodes.conversions import vehicle_camera
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.subscriptions import StampChecker, sensor_qos, subscribe

VIEW_TOLERANCE = 5.0  # difference from the mapping camera's field of view that is reported [deg]


class InputChecks:
    """topics: camera_info topic by camera. mapped: the map's cameras by name."""

    def __init__(
        self, node: Node, monitor: Monitor, topics: Mapping[str, str], mapped: Mapping[str, Camera]
    ) -> None:
        self._node, self._monitor, self.mapped = node, monitor, mapped
        self._stamps = StampChecker(node, monitor)
        self._infos: dict[str, CameraInfo] = {}
        self._subscriptions = [
            subscribe(
                node,
                CameraInfo,
                topic,
                functools.partial(self._on_camera_info, camera),
                monitor,
                sensor_qos(),
            )
            for camera, topic in topics.items()
        ]

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def stamp(self, camera: str, header: Header) -> int | None:
        """The stamp [ns]; None, with a warning, where it cannot be the capture time."""
        return self._stamps.usable(camera, header)

    def repeats(self, answer: Answer) -> None:
        """Report an image that repeats the last ones."""
        key = f"repeats of {answer.camera}"
        if answer.informative:
            self._monitor.solved(key)
            return
        text = f"camera '{answer.camera}' repeats one image: it is frozen, or the vehicle stands"
        self._monitor.warn_once(self._node.get_logger(), key, text)

    def camera(self, name: str, base_from_camera: Transform) -> Camera:
        """The vehicle's camera with its mount (see conversions.vehicle_camera)."""
        return vehicle_camera(self._infos.get(name), self.mapped.get(name), base_from_camera)

    def _on_camera_info(self, camera: str, info: CameraInfo) -> None:
        self._infos[camera] = info
        mapped = self.mapped.get(camera)
        if mapped is None or min(mapped.fx, mapped.width, info.k[0], info.width) <= 0:
            return
        now, then = _view(info.width, info.k[0]), _view(mapped.width, mapped.fx)
        key = f"view of {camera}"
        if abs(now - then) <= VIEW_TOLERANCE:
            self._monitor.solved(key)
            return
        text = f"camera '{camera}' sees {now:.0f}° across, the map's saw {then:.0f}°: scores suffer"
        self._monitor.warn_once(self._node.get_logger(), key, text, hold=None)


def _view(width: int, focal: float) -> float:
    """Horizontal field of view [deg]."""
    return 2 * math.degrees(math.atan(width / (2 * focal)))
