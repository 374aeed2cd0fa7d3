# SPDX-License-Identifier: Apache-2.0
"""Is there anything to be seen in the images, and do they come from a camera like the map's?"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from disam_ros.camera import Camera
from disam_ros.errors import BlindError
from disam_ros.geometry import Transform
from disam_ros.localization.image_checks import FROZEN, REPEATED, FrozenWatch, blank
from disam_ros.localization.odometry import Reading
from disam_ros.nodes.conversions import vehicle_camera
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.subscriptions import sensor_qos, subscribe

VIEW_TOLERANCE = 5.0  # degrees that the field of view may differ from the mapping camera's


class ImageCheck:
    """Looks at every image before it is localized. Used by the worker alone."""

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor
        self._watches: dict[str, FrozenWatch] = {}

    def evidence(
        self, camera: str, image: np.ndarray, stamp_ns: int | None, reading: Reading | None
    ) -> bool:
        """Whether the image tells anything new of the place. image: uint8 [H, W, 3].

        Raises BlindError where nothing is to be seen in it, or where it is not of this moment.
        """
        if colour := blank(image):
            raise BlindError(
                f"the image of camera '{camera}' is {colour}: covered, blinded or without light"
            )
        watch = self._watches.setdefault(camera, FrozenWatch())
        verdict = watch.look(image, stamp_ns, reading)
        if verdict == FROZEN:
            raise BlindError(
                f"camera '{camera}' is frozen: the same pixels, and odometry says that it moved"
            )
        key = f"repeats of {camera}"
        if verdict != REPEATED:
            self._monitor.solved(key)
            return True
        text = f"camera '{camera}' repeats one image: it is frozen, or the vehicle stands"
        if self._monitor.problem(key, text):
            self._node.get_logger().warning(text)
        return False


class ViewCheck:
    """Compares the cameras' fields of view with the map's. mapped: the map's cameras by name."""

    def __init__(
        self, node: Node, monitor: Monitor, topics: Mapping[str, str], mapped: Mapping[str, Camera]
    ) -> None:
        self._node, self._monitor, self.mapped = node, monitor, mapped
        self._infos: dict[str, CameraInfo] = {}
        self._subscriptions = [
            subscribe(
                *(node, CameraInfo, topic, functools.partial(self._on_camera_info, camera)),
                *(monitor, sensor_qos()),
            )
            for camera, topic in topics.items()
        ]

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def camera(self, name: str, base_from_camera: Transform) -> Camera:
        """The vehicle's camera, where it is mounted (see conversions.vehicle_camera)."""
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
        if self._monitor.problem(key, text, hold=None):
            self._node.get_logger().warning(text)


def _view(width: int, focal: float) -> float:
    """Horizontal field of view in degrees."""
    return 2 * math.degrees(math.atan(width / (2 * focal)))
