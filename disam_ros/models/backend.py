# SPDX-License-Identifier: Apache-2.0
"""Inference backends of the encoders: ONNX Runtime on a CPU, torch else.

The features of both agree to the TOLERANCE of export.py, for queries and for maps; those of
`onnx-int8` less, and are compared with maps of the others.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import BACKENDS, DescriptorConfig
from disam_ros.device import CPU, is_cuda, require_torch
from disam_ros.errors import ConfigError
from disam_ros.models.arrays import as_numpy
from disam_ros.models.cuda import CudaBackend
from disam_ros.models.model import PRECISIONS, Model
from disam_ros.models.onnx_backend import (
    NumpyInputs,
    OnnxBackend,
    is_imported,
    missing_domains,
    remedy,
)
from disam_ros.models.onnx_runtime import has_runtime
from disam_ros.models.similarity import coarse_descriptor, fine_descriptor

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES, LARGEST_KEPT = 128 << 20, 32 << 20  # freed memory, and a block, to keep at most


class Backend(Protocol):
    """Runs both encoders of a domain, or the shared one once. Can be sent to other processes."""

    name: str

    @property
    def precision(self) -> str:
        """Precision of the computation: float32, half or int8."""
        ...

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        """Camera images uint8 RGB [H, W, 3] → what `encode` takes. Raises ImageError."""
        ...

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        """Images [B, 3, H, W] in [−1, 1] → coarse and fine features [B, C, h, w].

        Features are arrays of numpy on a CPU, tensors on another device. Raises ModelError for
        features that cannot be right, BlindError for images of one colour (arrays.py).
        """
        ...


class TorchBackend(NumpyInputs):
    """The model's networks on their device; on a CPU in its fastest memory format."""

    name = "torch"

    def __init__(self, model: Model, device: str) -> None:
        require_torch("backend 'torch'")
        self._model, self._device = model.to(device), device
        self._size = model.network.image_size
        if device == CPU:
            import torch

            keep_freed_memory()
            if model.network.depthwise:  # the paper's encoder is slower with it
                for encoder in (*model.coarse.values(), *model.fine.values()):
                    encoder.to(memory_format=torch.channels_last)

    def encode(self, domain: str, images: NDArray[np.float32]) -> tuple[Any, Any]:
        import torch

        with torch.inference_mode():
            z = self._model.encode(domain, torch.from_numpy(images).to(self._device))
        coarse, fine = (as_numpy(x) for x in z) if self._device == CPU else z
        return coarse, fine


def select_backend(name: str, model: Model, device: str) -> Backend:
    """Opens the backend of a name.

    auto: onnx on a CPU where the model directory has an ONNX file of each domain and ONNX Runtime
    is installed; else torch. An imported model is run by ONNX Runtime whatever the name. Raises
    ConfigError where the chosen one cannot run, ModelError for invalid files.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend '{name}' is unknown; use {', '.join(BACKENDS)}")
    if is_imported(model):
        return OnnxBackend(model, device)
    if name == "auto":
        name = "onnx" if device == CPU and _ready(model) else "torch"
    if name == "torch":
        return CudaBackend(model, device) if is_cuda(device) else TorchBackend(model, device)
    if device != CPU:
        raise ConfigError(f"backend '{name}' runs on the CPU, not on {device}: set device to 'cpu'")
    return OnnxBackend(model, precision=PRECISIONS[name == "onnx-int8"])


def _ready(model: Model) -> bool:
    """Whether ONNX Runtime can run the encoders of all domains; logs why not."""
    if missing := missing_domains(model):
        if model.directory is not None:
            slower = model.network.depthwise  # than ONNX Runtime
            logger.log(
                logging.WARNING if slower else logging.INFO,
                "torch runs the encoders: there are no ONNX files of %s; write them: %s",
                ", ".join(missing),
                remedy(model.directory),
            )
        return False
    if not has_runtime():
        logger.warning("torch runs the encoders: the package onnxruntime is not installed")
        return False
    return True


def describe(
    backend: Backend, domain: str, images: NDArray[np.float32], config: DescriptorConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Descriptors [B, D_coarse], [B, D_fine] of images [B, 3, H, W] of one domain."""
    z_coarse, z_fine = backend.encode(domain, images)
    coarse = coarse_descriptor(z_coarse, config)
    return as_numpy(coarse), as_numpy(fine_descriptor(z_fine, config))


def keep_freed_memory() -> None:
    """Raise malloc's trim and mmap thresholds: up to 128 MiB of freed memory stay in the process.

    Else glibc returns each layer's output, some MB, to the kernel and page faults on the next one
    take a third of the mobile encoders' time. Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
