# SPDX-License-Identifier: Apache-2.0
"""The nodes. rcl keeps logs in ~/.ros/log and would end a process where it cannot."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path


def _require_log_folder() -> None:
    """Send the logs of rcl to a temporary folder where theirs takes none."""
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


_require_log_folder()
