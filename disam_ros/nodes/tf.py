# SPDX-License-Identifier: Apache-2.0
"""TF where tf2_ros is installed: there are no wheels of it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.time import Time

from disam_ros.geometry import Transform
from disam_ros.nodes.conversions import stamp_to_ns


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
