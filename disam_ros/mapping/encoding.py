# SPDX-License-Identifier: Apache-2.0
"""Batch encoding of map images: a thread reads ahead, the caller's thread encodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disam_ros import image
from disam_ros.config import DescriptorConfig
from disam_ros.datasets.sources import PosedImage
from disam_ros.errors import ImageError
from disam_ros.mapping.keypoints import KeypointMaker
from disam_ros.models.descriptor import describe
from disam_ros.models.feature_check import is_of_one_colour
from disam_ros.models.model import Model

# By image: coarse and fine descriptor float32 [D] and optionally a row of keypoints uint8 [B], or
# the reason why it cannot be read
Encoded = list[tuple[NDArray[Any], ...] | str]
# By image: network input [3, H, W] and optionally a row of keypoints, or the reason
Read = list[tuple[Tensor, tuple[NDArray[np.uint8], ...]] | str]


class BatchEncoder(Protocol):
    """Encodes batches asynchronously; results can be fetched in any order.

    ahead: number of batches to submit before the first result is fetched.
    """

    ahead: int

    def submit(self, domain: str, items: Sequence[PosedImage]) -> Callable[[], Encoded]:
        """Start a batch of one domain; calling the result waits for its descriptors."""

    def close(self) -> None:
        """Cancel pending batches."""


class LocalEncoder:
    """Encodes in this process, while a thread reads and decodes the next batches."""

    ahead = 2

    def __init__(
        self,
        model: Model,
        config: DescriptorConfig,
        device: torch.device | str = "cpu",
        keypoints: KeypointMaker | None = None,
    ) -> None:
        self._model, self._config, self._device = model.to(device), config, device
        self._keypoints = keypoints
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")

    def submit(self, domain: str, items: Sequence[PosedImage]) -> Callable[[], Encoded]:
        size = self._model.network.image_size
        read = self._reader.submit(read_images, items, size, self._keypoints)
        return lambda: encode(self._model, domain, read.result(), self._config, self._device)

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)


def read_images(
    items: Sequence[PosedImage], size: tuple[int, int], keypoints: KeypointMaker | None = None
) -> Read:
    """Network inputs of a size (height, width), and keypoints.

    Raises DatasetError for a damaged depth map.
    """

    def read(item: PosedImage) -> tuple[Tensor, tuple[NDArray[np.uint8], ...]] | str:
        try:
            pixels = item.load()
            tensor = image.to_tensor(pixels, size)
        except ImageError as error:
            return str(error)
        if is_of_one_colour(tensor):
            return f"{item.record.source}: the image is of one colour"
        return tensor, (keypoints.row(item, pixels),) if keypoints else ()

    return [read(item) for item in items]


def encode(
    model: Model,
    domain: str,
    read: Read,
    config: DescriptorConfig,
    device: torch.device | str = "cpu",
) -> Encoded:
    """Descriptors of the images that could be read, in the order of the images."""
    tensors = [item[0] for item in read if not isinstance(item, str)]
    if not tensors:
        return [item for item in read if isinstance(item, str)]
    coarse, fine = describe(model, domain, torch.stack(tensors).to(device), config)
    rows = zip(coarse.cpu().numpy(), fine.cpu().numpy(), strict=True)
    return [item if isinstance(item, str) else (*next(rows), *item[1]) for item in read]
