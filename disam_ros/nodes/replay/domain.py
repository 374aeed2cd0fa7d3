# SPDX-License-Identifier: Apache-2.0
"""ROS domains that no other process of this user takes at the same time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import TextIO

from disam_ros.errors import DisamError

DOMAINS = 100  # the ports of domains above 101 lie among Linux's ephemeral ports
_locks: list[TextIO] = []  # held until this process ends


def claim_domain() -> int:
    """Returns a domain id in 1…100, reserved by a lock file until this process ends.

    Raises DisamError where all are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"disam_ros_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for offset in range(DOMAINS):
        number = 1 + (os.getpid() + offset) % DOMAINS
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _locks.append(lock)
        return number
    raise DisamError(f"all {DOMAINS} ROS domains are taken; their locks are in {folder}")


def own_domain() -> int | None:
    """Returns a ROS domain for this process alone; None if ROS_DOMAIN_ID names one."""
    return None if os.environ.get("ROS_DOMAIN_ID") else claim_domain()
