# SPDX-License-Identifier: Apache-2.0
"""Checks of the input, reported in log and diagnostics: repeated images, cameras."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from disam_ros.camera import (
    DISTORTION_MODELS,
    PINHOLE,
    Camera,
    ViewMatch,
    info_doubts,
    is_rectified,
    mount_difference,
    size_fault,
    uncalibrated,
    vehicle_camera,
    warp_into,
)
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Localized
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.conversions import check_camera_info
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import sensor_qos

_Seen = tuple[CameraInfo | None, Transform, tuple[int, int]]  # intrinsics, mount, size
LITTLE = 0.5  # share of the map camera's view below which the rest is reported


class InputChecks(Part):
    """Checks images and camera_info.

    topics, images: camera_info and image topic by camera. localizer: of the map.
    """

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        topics: Mapping[str, str],
        images: Mapping[str, str],
        localizer: Localizer,
    ) -> None:
        super().__init__(node, monitor)
        self._localizer = localizer
        self._views: dict[str, tuple[Camera, Camera | None, tuple[int, int]]] = {}  # reported
        self._topics = {camera: node.resolve_topic_name(name) for camera, name in topics.items()}
        self._rectified = {
            camera: is_rectified(node.resolve_topic_name(name)) for camera, name in images.items()
        }
        self._infos: dict[str, CameraInfo] = {}  # usable ones, or of a lens that is no pinhole
        self._last: dict[str, CameraInfo] = {}  # checked
        self._lenses: dict[str, tuple[_Seen, Camera]] = {}  # of the last images
        for camera, topic in topics.items():  # messages are all alike: a lost one is no loss
            take = functools.partial(self._on_camera_info, camera)
            self._subscriptions.add(CameraInfo, topic, take, sensor_qos(), remedy="")

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes another map."""
        self._localizer = loaded.localizer
        self._lenses.clear()

    def answered(self, localized: Localized, header: Header) -> None:
        """Report an image that repeats the last ones."""
        answer = localized.answer
        key = f"repeats of {answer.camera}"
        if answer.informative:
            self._monitor.solved(key)
            return
        text = f"camera '{answer.camera}' repeats one image: it is frozen, or the vehicle stands"
        self._monitor.warn_once(key, text)

    def camera(self, name: str, base_from_camera: Transform, image: NDArray[np.uint8]) -> Camera:
        """The vehicle's camera with its mount (see `vehicle_camera`), for an image
        [H, W, 3]: not calibrated where the image is of another shape than its camera_info."""
        seen = self._infos.get(name), base_from_camera, (image.shape[1], image.shape[0])
        last = self._lenses.get(name)
        if last is None or last[0] != seen:
            last = self._lenses[name] = seen, self._checked(name, *seen)
        return last[1]

    def _checked(
        self,
        name: str,
        info: CameraInfo | None,
        base_from_camera: Transform,
        size: tuple[int, int],
    ) -> Camera:
        mapped, key = self._mapped(name, base_from_camera), f"shape of {name}"
        self._check_mount(name, base_from_camera)
        fault = "" if info is None else size_fault(info, size)
        if fault:
            text = f"{self._topics[name]} is not used for camera '{name}': {fault}"
            self._monitor.warn_once(key, text, hold=None)
            return uncalibrated(base_from_camera)
        self._monitor.solved(key)
        rectified = self._rectified[name]
        lens = vehicle_camera(info, mapped, base_from_camera, rectified=rectified, size=size)
        self._check_view(name, lens, size)
        if info is not None and lens.calibrated:
            self._check_doubts(name, info, size)
        return lens

    def _check_doubts(self, camera: str, info: CameraInfo, size: tuple[int, int]) -> None:
        """Report what is odd about a camera_info for images of a size."""
        key = f"doubts of {camera}"
        doubts = info_doubts(info, rectified=self._rectified[camera], size=size)
        text = f"{self._topics[camera]} is used, but {'; '.join(doubts)}" if doubts else ""
        self._monitor.lasting(key, text)

    def _mapped(self, name: str, base_from_camera: Transform) -> Camera | None:
        """The map's camera of a name, else the one that looks where it does; None: none known."""
        if name in self._localizer.map.camera_names:
            return self._localizer.map.header.cameras.get(name)
        lens = uncalibrated(base_from_camera)
        return self._localizer.view_matches(name, lens)[0].mapped

    def _check_mount(self, name: str, base_from_camera: Transform) -> None:
        mapped = self._localizer.map.header.cameras.get(name)
        if mapped is None:
            return
        text = mount_difference(name, base_from_camera, mapped.base_from_camera)
        self._monitor.lasting(f"mount of {name}", text)

    def _on_camera_info(self, camera: str, info: CameraInfo) -> None:
        last = self._last.get(camera)
        if last is not None and _intrinsics(last) == _intrinsics(info):
            return
        self._last[camera] = info
        key = f"intrinsics of {camera}"
        try:
            check_camera_info(info, self._rectified[camera])
            self._monitor.solved(key)
        except GeometryError as error:
            text = f"{self._topics[camera]} is not used: {error}"
            self._monitor.warn_once(key, text, hold=None)
            if DISTORTION_MODELS.get(info.distortion_model) == PINHOLE:
                return
        self._infos[camera] = info

    def _check_view(self, camera: str, lens: Camera, size: tuple[int, int]) -> None:
        """Report once how images of a size become the map camera's, or why they do not."""
        matches = self._localizer.view_matches(camera, lens)
        mapped = matches[0].mapped
        if self._views.get(camera) == (lens, mapped, size):
            return
        self._views[camera] = lens, mapped, size
        if [match.camera for match in matches] != [camera]:
            self._node.get_logger().info(_comparison(camera, matches))
        text, warp = self._view_fault(camera, mapped), warp_into(lens, mapped, size)
        if warp is not None:
            text = (
                f"images of camera '{camera}' are warped into the map's camera, of whose view it "
                f"sees {100 * warp.coverage:.0f} %"
            )
        key = f"view of {camera}"
        if warp is not None and warp.coverage < LITTLE:
            text += (
                f": scores suffer; if {self._topics[camera]} is another camera's, remap it, else "
                "map with this camera"
            )
            self._monitor.warn_once(key, text, hold=None)
            return
        self._monitor.solved(key)
        if text:
            self._node.get_logger().info(text)

    def _view_fault(self, camera: str, mapped: Camera | None) -> str:
        """Says why images are compared unwarped; empty where they are warped."""
        if mapped is None or not mapped.calibrated or mapped.is_assumed:
            return f"the map has no intrinsics of camera '{camera}': its images are compared as is"
        if camera not in self._infos:
            topic = self._topics[camera]
            return f"nothing usable on {topic} yet: camera '{camera}' is taken for the map's"
        return ""


def _comparison(camera: str, matches: Sequence[ViewMatch]) -> str:
    """Names the map cameras that images of a camera are compared with."""
    names = [
        match.camera + (f" (vehicle turned by {90 * match.quarters}°)" if match.quarters else "")
        for match in matches
    ]
    return f"images of camera '{camera}' are compared with the map's of {', '.join(names)}"


def _intrinsics(info: CameraInfo) -> bytes:
    """Intrinsics as bytes: nan equals nan."""
    roi = info.roi
    region = roi.x_offset, roi.y_offset, roi.width, roi.height, info.binning_x, info.binning_y
    numbers = np.array([info.width, info.height, *region, *info.k, *info.p, *info.d], np.float64)
    return numbers.tobytes() + str(info.distortion_model).encode()
