# SPDX-License-Identifier: Apache-2.0
"""The vehicle's cameras: extrinsics by TF, parameter or map, intrinsics by camera_info; checked."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

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
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.conversions import check_camera_info
from disam_ros.nodes.image_input import image_topic
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import sensor_qos
from disam_ros.nodes.tf import Tf, mount_from_tf, tf_of_cameras

_Seen = tuple[CameraInfo | None, Transform, tuple[int, int]]  # intrinsics, mount, size
LITTLE = 0.5  # share of the map camera's view below which the rest is reported


class Extrinsics:
    """`base_from_camera` by camera name. Raises ConfigError where neither TF nor fixed ones are.

    fixed: extrinsics without TF. tf: None where it is not wanted or not installed. A transform from
    TF is kept: extrinsics are static.
    """

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        base_frame: str,
        fixed: Mapping[str, Transform],
        use_tf: bool,
    ) -> None:
        self._node, self._monitor, self._base_frame = node, monitor, base_frame
        self.fixed = fixed
        self.tf: Tf | None = tf_of_cameras(node, use_tf, fixed)
        self._from_tf: dict[str, Transform] = {}  # by frame id
        self._owners: dict[str, str] = {}  # camera by frame id

    def base_from_camera(self, camera: str, frame_id: str) -> Transform:
        """Pose of a camera's optical frame in the base frame: from TF, else the fixed one.

        A frame is that of one camera: others with its name have the fixed one, which is reported.
        """
        if self.tf is not None and frame_id and frame_id not in self._from_tf:
            frames, instead = (self._base_frame, frame_id), "using fixed extrinsics"
            mount = mount_from_tf(self.tf, self._node, self._monitor, frames, instead)
            if mount is not None:
                self._from_tf[frame_id] = mount
        if frame_id not in self._from_tf:
            return self.fixed[camera]
        owner = self._owners.setdefault(frame_id, camera)
        if owner == camera:
            return self._from_tf[frame_id]
        text = (
            f"images of cameras '{owner}' and '{camera}' have one frame '{frame_id}': those of "
            f"'{camera}' are taken from parameters or the map; give it a frame of its own"
        )
        self._monitor.lasting(f"frame of {camera}", text)
        return self.fixed[camera]

    def destroy(self) -> None:
        """Stop listening to TF."""
        if self.tf is not None:
            self.tf.destroy()


class Cameras(Part):
    """The vehicle's cameras, compared with the map's. prefixes: of their topics, by camera."""

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        config: LocalizerNodeConfig,
        prefixes: Mapping[str, str],
        loaded: Loaded,
    ) -> None:
        super().__init__(node, monitor)
        self._localizer = loaded.localizer
        self.extrinsics = Extrinsics(node, monitor, config.base_frame, loaded.fixed, config.use_tf)
        self._views: dict[str, tuple[Camera, Camera | None, tuple[int, int]]] = {}  # reported
        self._topics: dict[str, str] = {}  # of camera_info
        self._rectified: dict[str, bool] = {}  # whether the images are, by their topic
        self._infos: dict[str, CameraInfo] = {}  # usable ones, or of a lens that is no pinhole
        self._last: dict[str, CameraInfo] = {}  # checked
        self._lenses: dict[str, tuple[_Seen, Camera]] = {}  # of the last images
        for camera, prefix in prefixes.items():
            topic, resolve = f"{prefix}camera_info", node.resolve_topic_name
            images = image_topic(f"{prefix}image", config.image_transport)
            self._topics[camera] = resolve(topic)
            self._rectified[camera] = is_rectified(resolve(images))
            take = functools.partial(self._on_camera_info, camera)
            # Messages are all alike: a lost one is no loss.
            self._subscriptions.add(CameraInfo, topic, take, sensor_qos(), remedy="")

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes another map."""
        self._localizer, self.extrinsics.fixed = loaded.localizer, loaded.fixed
        self._lenses.clear()

    def destroy(self) -> None:
        """Give back topics and TF."""
        super().destroy()
        self.extrinsics.destroy()

    def camera(self, name: str, frame_id: str, image: NDArray[np.uint8]) -> Camera:
        """The vehicle's camera with its mount (see `vehicle_camera`), for an image
        [H, W, 3]: not calibrated where the image is of another shape than its camera_info."""
        base_from_camera = self.extrinsics.base_from_camera(name, frame_id)
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
        mapped = self._mapped(name, base_from_camera)
        self._check_mount(name, base_from_camera)
        fault = "" if info is None else size_fault(info, size)
        text = f"{self._topics[name]} is not used for camera '{name}': {fault}" if fault else ""
        self._monitor.lasting(f"shape of {name}", text)
        if fault:
            return uncalibrated(base_from_camera)
        rectified = self._rectified[name]
        lens = vehicle_camera(info, mapped, base_from_camera, rectified=rectified, size=size)
        self._check_view(name, lens, size)
        if info is not None and lens.calibrated:
            self._check_doubts(name, info, size)
        return lens

    def _check_doubts(self, camera: str, info: CameraInfo, size: tuple[int, int]) -> None:
        """Report what is odd about a camera_info for images of a size."""
        doubts = info_doubts(info, rectified=self._rectified[camera], size=size)
        text = f"{self._topics[camera]} is used, but {'; '.join(doubts)}" if doubts else ""
        self._monitor.lasting(f"doubts of {camera}", text)

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
            self._monitor.lasting(key, text)
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
        little = warp is not None and warp.coverage < LITTLE
        if little:
            text += (
                f": scores suffer; if {self._topics[camera]} is another camera's, remap it, else "
                "map with this camera"
            )
        elif text:
            self._node.get_logger().info(text)
        self._monitor.lasting(f"view of {camera}", text if little else "")

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
