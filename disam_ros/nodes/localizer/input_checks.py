# SPDX-License-Identifier: Apache-2.0
"""Checks of the input, reported in log and diagnostics: stamps, repeated images, cameras."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from disam_ros.camera import Camera, mount_difference, same_shape
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer
from disam_ros.nodes.conversions import PINHOLES, UNKNOWN, check_camera_info, vehicle_camera
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
        self._mounts: dict[str, tuple[Transform, Camera]] = {}  # checked
        self._topics = {camera: node.resolve_topic_name(name) for camera, name in topics.items()}
        self._infos: dict[str, CameraInfo] = {}  # usable ones, or of an unknown distortion
        self._last: dict[str, CameraInfo] = {}  # checked
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

    def camera(self, name: str, base_from_camera: Transform, image: NDArray[np.uint8]) -> Camera:
        """The vehicle's camera with its mount (see conversions.vehicle_camera), for an image
        [H, W, 3]: not calibrated where the image is of another shape than its camera_info."""
        info, mapped = self._infos.get(name), self.mapped.get(name)
        self._check_mount(name, base_from_camera)
        key, (height, width) = f"shape of {name}", image.shape[:2]
        if info is None or same_shape((width, height), (info.width, info.height)):
            self._monitor.solved(key)
            return vehicle_camera(info, mapped, base_from_camera)
        text = (
            f"{self._topics[name]} is of {info.width}x{info.height} pixels, images of camera "
            f"'{name}' have {width}x{height}: it is not used; publish that of these images"
        )
        self._monitor.warn_once(self._node.get_logger(), key, text, hold=None)
        return replace(UNKNOWN, base_from_camera=base_from_camera)

    def _check_mount(self, name: str, base_from_camera: Transform) -> None:
        mapped = self.mapped.get(name)
        if mapped is None or self._mounts.get(name) == (base_from_camera, mapped):
            return
        self._mounts[name] = base_from_camera, mapped
        key = f"mount of {name}"
        text = mount_difference(name, base_from_camera, mapped.base_from_camera)
        if text:
            self._monitor.warn_once(self._node.get_logger(), key, text, hold=None)
        else:
            self._monitor.solved(key)

    def _on_camera_info(self, camera: str, info: CameraInfo) -> None:
        last = self._last.get(camera)
        if last is not None and _intrinsics(last) == _intrinsics(info):
            return
        self._last[camera] = info
        key = f"intrinsics of {camera}"
        try:
            check_camera_info(info)
            self._monitor.solved(key)
        except GeometryError as error:
            text = f"{self._topics[camera]} is not used: {error}"
            self._monitor.warn_once(self._node.get_logger(), key, text, hold=None)
            if info.distortion_model in PINHOLES:
                return
        self._infos[camera] = info
        self._check_view(camera, info)

    def _check_view(self, camera: str, info: CameraInfo) -> None:
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


def _intrinsics(info: CameraInfo) -> bytes:
    """What is checked, comparable: nan equals nan."""
    numbers = np.array([info.width, info.height, *info.k, *info.d], np.float64)
    return numbers.tobytes() + info.distortion_model.encode()


def _view(width: int, focal: float) -> float:
    """Horizontal field of view [deg]."""
    return 2 * math.degrees(math.atan(width / (2 * focal)))
