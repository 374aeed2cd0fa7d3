# SPDX-License-Identifier: Apache-2.0
"""Compute devices: choice, description, memory; timing of the stages that run on them."""

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
    """Device name for diagnostics."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def processor_name() -> str:
    """The CPU's model name, or its architecture where the system does not give one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_peak_mib() -> float:
    """Peak resident memory of this process [MiB]; nan where the system does not give it.

    VmHWM, since the peak of getrusage includes that of the parent, which a child inherits.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    kibibytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes[0]) / 1024 if kibibytes else float("nan")


class Stopwatch:
    """Wall time by stage [ms]."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str, device: torch.device | None = None) -> None:
        """End a stage, once the device has finished its queued work; its times add up."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def finish(self) -> dict[str, float]:
        """Times of all stages and the total [ms]."""
        return {**self._laps, "total": 1e3 * (time.perf_counter() - self._start)}
