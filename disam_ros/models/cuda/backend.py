# SPDX-License-Identifier: Apache-2.0
"""Encoders on a CUDA device: half precision where it agrees with float32, recorded as CUDA graphs.

The model's own networks stay where they are; the device has copies. Features are float32.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import is_cuda, require_torch
from disam_ros.models.arrays import require_features, sample_images
from disam_ros.models.cuda.graphs import Features, Graphs, Network
from disam_ros.models.cuda.inputs import DeviceInputs
from disam_ros.models.model import Model
from disam_ros.models.similarity import least_similarity

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

AGREEMENT = 0.999  # least similarity of features in half precision with those in float32


class CudaBackend:
    """Both encoders of each domain on a device; a shared one runs once.

    A domain's encoders are copied to the device, and compared in both precisions, with its first
    image. Where one domain fails the comparison, or an image leaves the range of half precision,
    all go on in float32.
    """

    name = "torch"

    def __init__(self, model: Model, device: str) -> None:
        require_torch("backend 'torch'")
        self._model, self._device = model, device
        self._half = True
        self._start()

    def _start(self) -> None:
        self._networks: dict[str, Network] = {}
        self.prepare = DeviceInputs(self._model.network.image_size, self._device)
        self._graphs = Graphs(is_cuda(self._device))
        self._lock = Lock()  # a graph has one place for its images

    @property
    def precision(self) -> str:
        return "half" if self._half else "float32"

    def encode(self, domain: str, images: NDArray[np.float32] | Tensor) -> tuple[Any, Any]:
        """Encodes images, also as `prepare` gives them. Features are on the device."""
        import torch

        pixels = torch.as_tensor(images, device=self._device)
        with self._lock, torch.inference_mode():
            if domain not in self._networks:
                self._load(domain)
            z = self._run(domain, pixels)
            if self._half and not all(bool(x.isfinite().all()) for x in z):
                self._to_float32("an image leaves its range")
                self._load(domain)
                z = self._run(domain, pixels)
            for source, features in zip(self._model.stage_files(), z, strict=True):
                require_features(features, pixels, f"{source}, domain '{domain}',")
        return z[0], z[-1]

    def _run(self, domain: str, images: Tensor) -> Features:
        return self._graphs(domain, self._networks[domain], images)

    def _load(self, domain: str) -> None:
        """Copy a domain's encoders to the device, and test half precision."""
        if not self._half:
            self._networks[domain] = self._copy(domain, half=False)
            return
        half, exact = self._copy(domain, half=True), self._copy(domain, half=False)
        tested = self._self_test()
        similarity = least_similarity(half(tested), exact(tested))
        if similarity >= AGREEMENT:
            self._networks[domain] = half
            return
        self._to_float32(
            f"domain '{domain}' has features of similarity {similarity:.4f} with float32's"
        )
        self._networks[domain] = exact

    def _to_float32(self, reason: str) -> None:
        logger.warning("the encoders go on in float32, not in half precision: %s", reason)
        self._half = False
        self._networks.clear()
        self._graphs = Graphs(self._graphs.enabled)

    def _self_test(self) -> Tensor:
        import torch

        images = sample_images(self._model.network.image_size)
        return torch.from_numpy(images).to(self._device)

    def _copy(self, domain: str, half: bool) -> Network:
        """Images float32 [B, 3, H, W] → coarse and fine features float32, by copies of weights."""
        import torch

        kind = torch.float16 if half else torch.float32
        layout = torch.channels_last if half else torch.contiguous_format
        coarse, fine = self._model.coarse[domain], self._model.fine[domain]

        def to_device(encoder: nn.Module) -> nn.Module:
            copied = deepcopy(encoder).eval().requires_grad_(False).to(self._device, kind)
            for weights in copied.parameters():
                if weights.ndim == 4:
                    weights.data = weights.data.contiguous(memory_format=layout)
            return copied

        stages = [to_device(coarse)]
        stages += [] if fine is coarse else [to_device(fine)]

        def network(images: Tensor) -> Features:
            pixels = images.to(kind, memory_format=layout)
            z = [stage(pixels).float().contiguous() for stage in stages]
            return z[0], z[-1]

        return network

    def __getstate__(self) -> dict[str, Any]:
        unkept = ("_networks", "_lock", "_graphs", "prepare")
        return {name: value for name, value in self.__dict__.items() if name not in unkept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()
