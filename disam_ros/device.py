# SPDX-License-Identifier: Apache-2.0
"""Compute devices: choice, description, memory; timing of the stages that run on them.

A device is named as torch names it, 'cpu' or 'cuda:N'. Torch, whose import takes seconds and some
hundred MiB, is imported where the machine has a CUDA driver only.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from disam_ros.errors import ConfigError

logger = logging.getLogger(__name__)

CPU = "cpu"
DRIVER = "libcuda.so.1"  # on desktops and on Jetson
# Functions of OpenBLAS, whose builds have a prefix, a suffix, both or neither.
OPENBLAS_LIMITS = [
    f"{prefix}openblas_set_num_threads{suffix}"
    for prefix in ("", "scipy_")
    for suffix in ("", "64_")
]
FAULT = re.compile(r"OutOfMemoryError|cuda|cudnn|cublas|nvml", re.IGNORECASE)  # of a device


def select_device(name: str) -> str:
    """Select a device by name: 'auto' is CUDA where present, else the CPU.

    Raises ConfigError for a device that does not exist.
    """
    if name == CPU or (name == "auto" and not has_cuda_driver()):
        return CPU
    if name == "auto" and find_spec("torch") is None:
        logger.warning("there may be a GPU, but torch is not installed: the CPU is used")
        return CPU
    require_torch(f"device '{name}'")
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        logger.warning("the CPU is used: %s", _why_no_gpu())
        return CPU
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
    return str(device)


def _why_no_gpu() -> str:
    """Explain why torch sees no GPU although there is a driver."""
    import torch

    if torch.version.cuda is None:
        return f"there may be a GPU, but torch {torch.__version__} was built without CUDA"
    return (
        f"torch {torch.__version__} sees no GPU: there is none, or the driver is older than CUDA "
        f"{torch.version.cuda} wants; update the driver or install torch for an older CUDA"
    )


def is_device_fault(error: BaseException) -> bool:
    """Whether a GPU is out of memory, gone or broken, in torch's or ONNX Runtime's words.

    Errors of this package and of files are none, whatever they say.
    """
    runtime = type(error).__module__.startswith("onnxruntime")  # its errors have no root
    return (runtime or isinstance(error, RuntimeError)) and FAULT.search(
        f"{type(error).__name__} {error}"
    ) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device fault leaves the GPU in order: it has too little memory."""
    return type(error).__name__ == "OutOfMemoryError"


def is_cuda(device: str) -> bool:
    """Whether a device is a GPU, not the CPU."""
    return device.startswith("cuda")


def is_integrated(device: str) -> bool:
    """Whether a GPU shares the CPU's memory, as on Jetson; False where torch does not say."""
    import torch

    return bool(getattr(torch.cuda.get_device_properties(device), "is_integrated", False))


def require_torch(what: str) -> None:
    """Prepare the import of torch. Raises ConfigError, naming `what`, where it is not installed."""
    if "torch" in sys.modules:
        return
    if find_spec("torch") is None:
        raise ConfigError(f"{what} needs torch, which is not installed: pip install torch")
    # Threads of OpenMP that spin while they wait take the cores from what follows a layer: on two
    # cores a query took half as long again. OpenMP reads the policy once, when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def describe_device(device: str) -> str:
    """Device name for diagnostics."""
    if device == CPU:
        return f"cpu ({threads()} threads)"
    import torch

    if not torch.cuda.is_available():
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def threads() -> int:
    """Number of threads for a computation on the CPU.

    It is torch's where it is loaded, else OMP_NUM_THREADS or the cores that this process may use.
    """
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdecimal() and int(setting) else len(os.sched_getaffinity(0))


@cache
def calm_matrix_products() -> None:
    """Limit matrix products of numpy and scipy to one thread, in this process from now on.

    Threads of OpenBLAS wait for each other by spinning: on cores that other processes want, two of
    them take many times as long as one.
    """
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
    for path in sorted(paths):
        with suppress(OSError):  # the file is gone, as after an upgrade
            library = ctypes.CDLL(path)
            for name in OPENBLAS_LIMITS:
                if hasattr(library, name):
                    getattr(library, name)(1)


def free_device_memory() -> None:
    """Return the memory that CUDA caches to the device, where CUDA was used and still works."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            logger.debug("the device gives nothing back: %s", error)


def has_cuda_driver() -> bool:
    """Whether the machine has a driver of NVIDIA GPUs."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def processor_name() -> str:
    """The CPU's model name, or its architecture where the system does not give one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_mib() -> float:
    """Resident memory of this process [MiB]; nan where the system does not give it."""
    return _of_status("VmRSS")


def memory_peak_mib() -> float:
    """Peak resident memory of this process [MiB]; nan where the system does not give it.

    VmHWM, since the peak of getrusage includes that of the parent, which a child inherits.
    """
    return _of_status("VmHWM")


def _of_status(key: str) -> float:
    """Read an entry of /proc/self/status in MiB; nan: not there."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    kibibytes = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(kibibytes[0]) / 1024 if kibibytes else float("nan")


class Stopwatch:
    """Wall time by stage [ms]."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def share(self, count: int) -> Stopwatch:
        """A stopwatch that goes on from now with its share of the times of `count` items."""
        watch = Stopwatch()
        watch._laps = {stage: lap / count for stage, lap in self._laps.items()}
        return watch

    def resumed(self) -> Stopwatch:
        """The watch, which goes on after a pause that is of no stage."""
        self._last = time.perf_counter()
        return self

    def lap(self, stage: str, device: str = CPU) -> None:
        """End a stage, once the device has finished its queued work; times of a stage add up."""
        if device != CPU:
            import torch

            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def finish(self) -> dict[str, float]:
        """Times of all stages and their total [ms]."""
        return {**self._laps, "total": sum(self._laps.values())}
