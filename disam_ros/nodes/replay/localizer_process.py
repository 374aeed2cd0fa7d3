# SPDX-License-Identifier: Apache-2.0
"""Runs a localizer node in a process and a ROS domain of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from disam_ros.errors import DisamError
from disam_ros.nodes.replay.child import child_process

RECOVERY = 4.0  # time in which Fast DDS replaces memory that a killed process left locked [s]


@contextmanager
def localizer_process(
    parameters: Mapping[str, object], remappings: Mapping[str, str], domain_id: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a localizer node that logs warnings to stderr and is stopped at the end.

    It ends with this process. remappings: relative name → topic. domain_id: ROS domain; None: that
    of the environment.
    """
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={_yaml(value)}"]
    for name, topic in remappings.items():
        arguments += ["-r", f"{name}:={topic}"]
    arguments += ["--log-level", "warn"]
    environment = {} if domain_id is None else {"ROS_DOMAIN_ID": str(domain_id)}
    with child_process("localizer_node", arguments, environment) as process:
        yield process


def require_alive(process: subprocess.Popen[bytes]) -> None:
    """Raises DisamError if a node has ended by itself.

    A killed node may have held a lock in shared memory. After a second Fast DDS maps new memory in
    its place, and crashes if this process closes its own node at that moment.
    """
    if process.poll() is not None:
        if process.returncode < 0:
            time.sleep(RECOVERY)
        raise DisamError(
            f"the localizer node ended with status {process.returncode}; its log above says why"
        )


def _yaml(value: object) -> str:
    """Formats a parameter's value as YAML in one line."""
    value = str(value) if isinstance(value, Path) else value
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]
