# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: whether it is installed, and sessions of it."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disam_ros.device import CPU, threads
from disam_ros.errors import ConfigError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

ON_CPU, ON_CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def has_runtime() -> bool:
    """Returns whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


def require_runtime() -> None:
    """Raises ConfigError where ONNX Runtime is not installed."""
    if not has_runtime():
        raise ConfigError(
            "backend 'onnx' needs the package onnxruntime: pip install onnxruntime, or set "
            "backend to 'torch'"
        )


def create_session(model: Path | bytes, device: str) -> InferenceSession:
    """A session with as many threads as torch; on CUDA where the device is and onnxruntime can.

    model: a file, or its contents. Raises ImportError without onnxruntime; its errors for a model
    have no root of their own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    # Spinning threads take the cores from other nodes and make inference no faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they are raised, too
    providers: list[Any] = [ON_CPU]
    if device != CPU and ON_CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (ON_CUDA, {"device_id": int(device.partition(":")[2] or 0)}))
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if device != CPU and session.get_providers()[0] != ON_CUDA:
        logger.warning(
            "%s runs on the CPU, not on %s: this onnxruntime has no working %s; install "
            "onnxruntime-gpu instead of onnxruntime",
            model.name if isinstance(model, Path) else "the encoder",
            device,
            ON_CUDA,
        )
    return session
