# SPDX-License-Identifier: Apache-2.0
"""Compute device, its name and memory, and timing of stages that run on it."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

from disam_ros.errors import ConfigError


def select_device(name: str) -> torch.device:
    """'auto' is CUDA where present, else CPU. Raises ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' is unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}' was asked for, but torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; use 'auto' or 'cpu', or install CUDA torch"
        )
    return device


def describe_device(device: torch.device) -> str:
    """The device in words, for diagnostics."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def processor_name() -> str:
    """The CPU's name, or its architecture where it has none to tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_peak_mib() -> float:
    """Largest resident memory of this process so far; nan where the system does not tell it.

    getrusage would tell the parent's peak, too, which survives the start of a child.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    kibibytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes[0]) / 1024 if kibibytes else float("nan")


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str, device: torch.device | None = None) -> None:
        """End a stage, once the device has finished its work."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self._laps[stage] = 1e3 * (now - self._last)
        self._last = now

    def finish(self) -> dict[str, float]:
        """All stages, and the total."""
        return {**self._laps, "total": 1e3 * (time.perf_counter() - self._start)}
