# SPDX-License-Identifier: Apache-2.0
"""Processes forked from one that has imported the package: they start in a tenth of the time.

What they run must be a function of a module that they can import.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

IMPORTED = [
    "disam_ros.nodes.localizer.node",
    "disam_ros.nodes.map_builder.node",
    "disam_ros.nodes.replay.replay",
    "disam_ros.mapping.builder",  # all that there is without ROS
    # What nodes load when they are made, and the small models of the tests: three seconds.
    "rosidl_generator_py",
    "service_msgs.msg",
    "type_description_interfaces.msg",
    "disam_ros.models.networks",
    "disam_ros.models.mobile",
    "safetensors.torch",
    "torch.utils._device",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


def start(log: Path, function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Run a function in a process of its own, with its output in a file."""
    log.touch()
    given = (str(log), dict(os.environ), function, *arguments)
    process = _context.Process(target=_run, args=given, daemon=True)
    process.start()
    return process


def _run(
    log: str, environment: dict[str, str], function: Callable[..., Any], *arguments: Any
) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)
