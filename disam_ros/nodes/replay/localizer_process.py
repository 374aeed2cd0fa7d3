# SPDX-License-Identifier: Apache-2.0
"""Runs a localizer node in a process and a ROS domain of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from disam_ros.errors import DisamError

STOP_TIMEOUT = 20.0  # time until a node that does not end is killed [s]


@contextmanager
def localizer_process(
    parameters: Mapping[str, object], remappings: Mapping[str, str], domain_id: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a localizer node that logs warnings to stderr and is stopped at the end.

    Ctrl-C in a terminal does not reach it; should this process be killed, it ends as well
    (child.py). remappings: relative name → topic. domain_id: ROS domain; None: that of the
    environment.
    """
    command = [sys.executable, "-m", "disam_ros.nodes.replay.child", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    for name, topic in remappings.items():
        command += ["-r", f"{name}:={topic}"]
    environment = dict(os.environ)
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
    command += ["--log-level", "warn"]
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        with process.stdin:  # open as long as this process lives
            yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def require_alive(process: subprocess.Popen[bytes]) -> None:
    """Raises DisamError if a node has ended by itself."""
    if process.poll() is not None:
        raise DisamError(
            f"the localizer node ended with status {process.returncode}; its log above says why"
        )


def _yaml(value: object) -> str:
    """Formats a parameter's value as YAML in one line."""
    value = str(value) if isinstance(value, Path) else value
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]
