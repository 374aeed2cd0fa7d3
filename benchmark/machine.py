# SPDX-License-Identifier: Apache-2.0
"""Under what circumstances a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess

import torch

from disam_ros.device import processor_name


def circumstances() -> str:
    """Commit, processor, threads, load and versions in one line."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"commit {commit or 'unknown'}, {processor_name()}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()}, load {load:.1f}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
