# SPDX-License-Identifier: Apache-2.0
"""Start of ROS in this process: what it refuses is a ConfigError of one line."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidTopicNameException, NameValidationException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.validate_full_topic_name import validate_full_topic_name

from disam_ros.errors import ConfigError
from disam_ros.files.paths import DISCOVERY, missing_profile

LARGEST_DOMAIN = 232  # Fast DDS ends the process beyond, since ports end at 65535


@contextmanager
def starting() -> Iterator[None]:
    """In this block nodes, publishers and subscriptions are created.

    Sets the environment so that a program that starts later finds this one at once: Fast DDS
    answers a new participant a single time, and if that gets lost only its own next announcement,
    every 3 s, is heard. A profile of the user's own stays. Logs go to a temporary folder where
    rcl's own folder takes none.

    Raises ConfigError where ROS refuses a name, the ROS_DOMAIN_ID or its middleware.
    """
    _require_domain(os.environ.get("ROS_DOMAIN_ID", ""))
    _require_log_folder()
    os.environ.update(missing_profile(os.environ, DISCOVERY))  # Fast DDS reads it at the first node
    try:
        yield
    except (NameValidationException, rclpy_implementation.RCLError) as error:
        raise ConfigError(f"ROS refuses to start: {' '.join(str(error).split())}") from error


@contextmanager
def own_node(name: str, domain_id: int | None = None) -> Iterator[Node]:
    """Make a node in a context of its own, whose signals are left to Python.

    domain_id: ROS domain; None: that of the environment. Raises ConfigError as `starting`.
    """
    context = Context()
    with starting():
        rclpy.init(context=context, domain_id=domain_id)
        node = rclpy.create_node(name, context=context, enable_rosout=False)
    try:
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()


def require_node_name(name: str) -> None:
    """Raise ConfigError unless a node can have this name with its namespace."""
    try:
        validate_full_topic_name(name)
    except InvalidTopicNameException as error:
        raise ConfigError(f"--node expects a name such as /localizer, got '{name}'") from error


def _require_domain(text: str) -> None:
    try:
        fits = int(text or "0") <= LARGEST_DOMAIN  # a negative one means the default
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(f"ROS_DOMAIN_ID expects 0 to {LARGEST_DOMAIN}, got '{text[:40]}'")


def _require_log_folder() -> None:
    """Send rcl's logs (~/.ros/log) to a temporary folder where they cannot be written."""
    variables = os.environ
    home = variables.get("HOME") or "/dev/null"  # rcl asks nothing else
    ros_home = variables.get("ROS_HOME") or "~/.ros"
    folder = Path(variables.get("ROS_LOG_DIR") or Path(ros_home, "log"))
    if folder.parts[0] == "~":
        folder = Path(home, *folder.parts[1:])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        variables["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="ros_log_")
        logging.getLogger(__name__).warning(
            "%s; logs are in %s: set ROS_LOG_DIR", error, variables["ROS_LOG_DIR"]
        )
