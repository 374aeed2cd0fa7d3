# SPDX-License-Identifier: Apache-2.0
"""Batches of images → descriptors: reading ahead on a thread, encoding on the caller's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from disam_ros import image
from disam_ros.checkpoint import Model
from disam_ros.config import DescriptorConfig
from disam_ros.descriptor import describe
from disam_ros.errors import ImageError
from disam_ros.sources import PosedImage

# Coarse and fine descriptor float32 [D] of each image, or why it cannot be read
Encoded = list[tuple[np.ndarray, np.ndarray] | str]


class BatchEncoder(Protocol):
    """Takes batches and gives their descriptors back in any order they are asked for.

    ahead: batches that may be under way before the first is asked for.
    """

    ahead: int

    def submit(self, domain: str, items: Sequence[PosedImage]) -> Callable[[], Encoded]:
        """Begin with a batch of one domain; calling the result waits for its descriptors."""

    def close(self) -> None:
        """Let go of what is still under way."""


class LocalEncoder:
    """Encodes in this process, while a thread reads and decodes the next batches."""

    ahead = 2

    def __init__(
        self, model: Model, config: DescriptorConfig, device: torch.device | str = "cpu"
    ) -> None:
        self._model, self._config, self._device = model.to(device), config, device
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")

    def submit(self, domain: str, items: Sequence[PosedImage]) -> Callable[[], Encoded]:
        read = self._reader.submit(read_tensors, items, self._model.network.image_size)
        return lambda: encode(self._model, domain, read.result(), self._config, self._device)

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)


def read_tensors(items: Sequence[PosedImage], size: tuple[int, int]) -> list[Tensor | str]:
    """Network input [3, H, W] of each image, or why it cannot be read."""

    def read(item: PosedImage) -> Tensor | str:
        try:
            return image.to_tensor(item.load(), size)
        except ImageError as error:
            return str(error)

    return [read(item) for item in items]


def encode(
    model: Model,
    domain: str,
    tensors: Sequence[Tensor | str],
    config: DescriptorConfig,
    device: torch.device | str = "cpu",
) -> Encoded:
    """Descriptors of the images that could be read, in their places."""
    readable = [tensor for tensor in tensors if not isinstance(tensor, str)]
    if not readable:
        return list(tensors)
    coarse, fine = describe(model, domain, torch.stack(readable).to(device), config)
    rows = zip(coarse.cpu().numpy(), fine.cpu().numpy(), strict=True)
    return [tensor if isinstance(tensor, str) else next(rows) for tensor in tensors]
