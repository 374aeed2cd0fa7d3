# SPDX-License-Identifier: Apache-2.0
"""TF where tf2_ros is installed, as there are no wheels of it, and extrinsics of cameras."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.time import Time

from disam_ros.camera import Camera
from disam_ros.errors import ConfigError
from disam_ros.geometry import Transform
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.conversions import stamp_to_ns
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor


class Tf:
    """Listens to /tf and /tf_static. `open_tf` makes one. May be asked from any thread."""

    def __init__(self, node: Node, module: ModuleType) -> None:
        self._module = module
        self._buffer: Any = module.Buffer()
        self._listener: Any = module.TransformListener(self._buffer, node)

    def destroy(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def look_up(
        self, parent: str, child: str, stamp_ns: int | None = None
    ) -> tuple[Transform, int]:
        """`parent_from_child` and its stamp [ns]: at a stamp, else, as without one, the newest.

        Raises LookupError where they are not connected.
        """
        moments = [Time()]
        if stamp_ns is not None:
            moments.insert(0, Time(nanoseconds=stamp_ns, clock_type=ClockType.ROS_TIME))
        for moment in moments:
            try:
                transform = self._buffer.lookup_transform(parent, child, moment)
            except self._module.TransformException as error:
                reason = error
                continue
            at, turn = transform.transform.translation, transform.transform.rotation
            quaternion = np.array([turn.x, turn.y, turn.z, turn.w])
            pose = Transform(np.array([at.x, at.y, at.z]), quaternion)
            return pose, stamp_to_ns(transform.header)
        raise LookupError(str(reason)) from reason


def tf_installed() -> bool:
    """Whether tf2_ros is installed."""
    return importlib.util.find_spec("tf2_ros") is not None


def open_tf(node: Node) -> Tf | None:
    """TF, or None where tf2_ros is not installed."""
    try:
        return Tf(node, importlib.import_module("tf2_ros"))
    except ImportError:
        return None


class Extrinsics:
    """`base_from_camera` by camera name. Raises ConfigError where neither TF nor fixed ones are.

    fixed: extrinsics without TF. tf: None where it is not wanted or not installed. A transform from
    TF is kept: extrinsics are static.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        base_frame: str,
        fixed: Mapping[str, Transform],
        use_tf: bool,
    ) -> None:
        self._node, self._monitor, self._base_frame = node, monitor, base_frame
        self.fixed = fixed
        self._from_tf: dict[str, Transform] = {}  # by frame id
        self._owners: dict[str, str] = {}  # camera by frame id
        self.tf: Tf | None = open_tf(node) if use_tf else None
        if self.tf is not None:
            return
        if use_tf and fixed:
            node.get_logger().info("tf2_ros is not installed: extrinsics come from parameters")
        elif not fixed:
            raise ConfigError(
                "no extrinsics: set base_from_camera, or use_tf where tf2_ros is installed, or "
                "identity_extrinsics if the poses are those of the camera's optical frame itself"
            )

    def base_from_camera(self, camera: str, frame_id: str) -> Transform:
        """Pose of a camera's optical frame in the base frame: from TF, else the fixed one.

        A frame is that of one camera: others with its name have the fixed one, which is reported.
        """
        from_tf = self.from_tf(frame_id)
        if from_tf is None:
            return self.fixed[camera]
        owner = self._owners.setdefault(frame_id, camera)
        if owner == camera:
            return from_tf
        text = (
            f"images of cameras '{owner}' and '{camera}' have one frame '{frame_id}': those of "
            f"'{camera}' are taken from parameters or the map; give it a frame of its own"
        )
        key = f"frame of {camera}"
        self._monitor.warn_once(key, text, hold=None)
        return self.fixed[camera]

    def from_tf(self, frame_id: str) -> Transform | None:
        """Pose of an optical frame in the base frame by TF; None where TF does not know it."""
        if self.tf is not None and frame_id and frame_id not in self._from_tf:
            base_from_camera = self._look_up(self.tf, frame_id)
            if base_from_camera is not None:
                self._from_tf[frame_id] = base_from_camera
        return self._from_tf.get(frame_id)

    def destroy(self) -> None:
        """Stop listening to TF."""
        if self.tf is not None:
            self.tf.destroy()

    def _look_up(self, tf: Tf, frame_id: str) -> Transform | None:
        try:
            base_from_camera, _ = tf.look_up(self._base_frame, frame_id)
        except LookupError as error:
            instead = "using fixed extrinsics" if self.fixed else "waiting for it"
            text = f"no TF {self._base_frame} ← {frame_id} yet, {instead}: {error}"
            self._monitor.warn_once(f"tf {frame_id}", text)
            return None
        self._monitor.solved(f"tf {frame_id}")
        self._node.get_logger().info(f"extrinsics of {frame_id} taken from TF")
        return base_from_camera


def from_parameter(values: list[float], cameras: list[str]) -> dict[str, Transform] | None:
    """`base_from_camera` by camera from x y z [m] roll pitch yaw [rad] each.

    None where all are zero: not given. Raises ConfigError for a wrong number of values.
    """
    if not any(values):
        return None
    if len(values) != 6 * len(cameras):
        raise ConfigError(
            f"'base_from_camera' expects x y z roll pitch yaw for each of {', '.join(cameras)}: "
            f"{6 * len(cameras)} numbers, got {len(values)}"
        )
    table = np.array(values).reshape(-1, 6)
    return {name: Transform.from_xyz_rpy(row) for name, row in zip(cameras, table, strict=True)}


def fixed_extrinsics(
    node: Node, config: LocalizerNodeConfig, cameras: list[str], mapped: Mapping[str, Camera]
) -> dict[str, Transform]:
    """Extrinsics by camera from the parameter or, where it is all zero, from the map."""
    parameter = from_parameter(config.base_from_camera, cameras)
    if parameter is not None:
        return parameter
    node.get_logger().info("base_from_camera is all zero: using the extrinsics stored in the map")
    return {name: mapped_extrinsics(mapped, name) for name in cameras}


def mapped_extrinsics(mapped: Mapping[str, Camera], camera: str) -> Transform:
    """`base_from_camera` as stored in a map; identity where there is none."""
    return mapped[camera].base_from_camera if camera in mapped else Transform.identity()
