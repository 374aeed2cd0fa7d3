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

from disam_ros.camera import Camera, mount
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


def tf_of_cameras(node: Node, use_tf: bool, fixed: Mapping[str, Transform]) -> Tf | None:
    """TF for extrinsics; None where it is not wanted or not installed. fixed: those without TF.

    Raises ConfigError where neither TF nor fixed ones are.
    """
    tf = open_tf(node) if use_tf else None
    if tf is None and not fixed:
        raise ConfigError(
            "no extrinsics: set base_from_camera, or use_tf where tf2_ros is installed, or "
            "identity_extrinsics if the poses are those of the camera's optical frame itself"
        )
    if tf is None and use_tf:
        node.get_logger().info("tf2_ros is not installed: extrinsics come from parameters")
    return tf


def mount_from_tf(
    tf: Tf, node: Node, monitor: Monitor, frames: tuple[str, str], instead: str
) -> Transform | None:
    """`base_from_camera`; None, reported, where TF does not know it. frames: of base and camera.

    instead: what is done without it.
    """
    base, camera = frames
    try:
        base_from_camera, _ = tf.look_up(base, camera)
    except LookupError as error:
        monitor.warn_once(f"tf {camera}", f"no TF {base} ← {camera} yet, {instead}: {error}")
        return None
    monitor.solved(f"tf {camera}")
    node.get_logger().info(f"extrinsics of {camera} taken from TF")
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
    return {name: mount(mapped, name) for name in cameras}
