# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions: threads, execution provider."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def create_session(path: Path, device: torch.device) -> InferenceSession:
    """A session with as many threads as torch; on CUDA where the device is and onnxruntime can.

    Raises ImportError without onnxruntime; its errors for a file have no root of their own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads take the cores from other nodes and make inference no faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they are raised, too
    providers: list[Any] = [CPU]
    if device.type == "cuda" and CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (CUDA, {"device_id": device.index or 0}))
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    if device.type == "cuda" and session.get_providers()[0] != CUDA:
        logger.warning(
            "%s runs on the CPU, not on %s: this onnxruntime has no working %s; install "
            "onnxruntime-gpu instead of onnxruntime",
            path.name,
            device,
            CUDA,
        )
    return session
