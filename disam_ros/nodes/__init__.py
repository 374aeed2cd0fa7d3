# SPDX-License-Identifier: Apache-2.0
"""The nodes. rcl ends a process that it finds fault with while it is loaded: looked after here."""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from pathlib import Path

from disam_ros.errors import ConfigError


def _require_middleware() -> None:
    """Raise ConfigError where RMW_IMPLEMENTATION names one that cannot be loaded."""
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


def _require_log_folder() -> None:
    """Send the logs of rcl (~/.ros/log) to a temporary folder where theirs takes none."""
    given = os.environ.get
    home = given("HOME") or "/dev/null"  # rcl knows no other
    folder = Path(given("ROS_LOG_DIR") or Path(given("ROS_HOME") or "~/.ros", "log"))
    if folder.parts[0] == "~":
        folder = Path(home, *folder.parts[1:])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="ros_log_")
        logging.getLogger(__name__).warning(
            "%s; logs are in %s: set ROS_LOG_DIR", error, os.environ["ROS_LOG_DIR"]
        )


_require_middleware()
_require_log_folder()
