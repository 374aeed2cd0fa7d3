# SPDX-License-Identifier: Apache-2.0
"""Under what circumstances a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch


def circumstances() -> str:
    """Commit, processor, threads, load and versions in one line."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"commit {commit or 'unknown'}, {_processor()}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()}, load {load:.1f}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
