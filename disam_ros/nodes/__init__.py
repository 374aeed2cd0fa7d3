# SPDX-License-Identifier: Apache-2.0
"""The nodes: all that speaks ROS. `rclpy_extra/` guards against faults of rclpy and DDS."""

from __future__ import annotations

import ctypes
import os

from disam_ros.errors import ConfigError


def require_middleware() -> None:
    """Raise ConfigError where RMW_IMPLEMENTATION names a middleware that cannot be loaded.

    To be called before rclpy is imported, which would end the process.
    """
    name = os.environ.get("RMW_IMPLEMENTATION")
    if not name:
        return
    try:
        ctypes.CDLL(f"lib{name}.so")
    except OSError as error:
        raise ConfigError(
            f"RMW_IMPLEMENTATION is '{name}', which cannot be loaded ({error}): install it, as in "
            f"'sudo apt install ros-{os.environ.get('ROS_DISTRO', 'jazzy')}-rmw-cyclonedds-cpp', "
            "or unset RMW_IMPLEMENTATION"
        ) from error
