# SPDX-License-Identifier: Apache-2.0
"""Batch encoding of map images: a thread reads ahead, the caller's thread encodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, MapBuilderConfig
from disam_ros.datasets.sources import PosedImage
from disam_ros.device import CPU
from disam_ros.errors import ImageError
from disam_ros.mapping import keypoints, thumbnails
from disam_ros.models.arrays import is_of_one_colour
from disam_ros.models.backend import Backend, describe, select_backend
from disam_ros.models.cuda import leave_device
from disam_ros.models.model import Model

FileRows = Mapping[str, NDArray[np.uint8]]  # by file of the map, of an image: a row uint8 [B]
# By image: coarse and fine descriptor float32 [D] and further rows, or the reason why it cannot be
# read
Encoded = list[tuple[NDArray[Any], NDArray[Any], FileRows] | str]
# By image: network input [3, H, W] and further rows, or the reason
Read = list[tuple[NDArray[np.float32], FileRows] | str]


class RowMaker(Protocol):
    """Makes the row of an image in a file of the map; can be sent to other processes."""

    def row(self, item: PosedImage, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes uint8 [B] of an image, whose pixels are uint8 RGB [H, W, 3]."""


def row_makers(
    config: MapBuilderConfig, cameras: dict[str, Camera], device: str = "cpu"
) -> dict[str, RowMaker]:
    """Makers of the files that a map may lack. Raises as `keypoint_maker`."""
    makers: dict[str, RowMaker] = {}
    if maker := keypoints.keypoint_maker(config, cameras, device):
        makers[keypoints.FILE] = maker
    if config.thumbnails:
        makers[thumbnails.FILE] = thumbnails.ThumbnailMaker()
    return makers


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
        device: str,
        config: DescriptorConfig,
        makers: Mapping[str, RowMaker] | None = None,
    ) -> None:
        """device: where images are encoded, until it fails. makers: of further rows, by file."""
        self._model, self._device, self._config = model, device, config
        self._makers = makers or {}
        try:
            self._backend = select_backend("auto", model, device)
        except Exception as error:  # those of CUDA and of ONNX Runtime have no root in common
            self._continue_on_cpu(error)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")

    def submit(self, domain: str, items: Sequence[PosedImage]) -> Callable[[], Encoded]:
        size, bicubic = self._model.network.image_size, self._config.as_in_paper
        read = self._reader.submit(read_images, items, size, self._makers, bicubic)

        def result() -> Encoded:
            images = read.result()
            try:
                return encode(self._backend, domain, images, self._config)
            except Exception as error:
                self._continue_on_cpu(error)
            return encode(self._backend, domain, images, self._config)

        return result

    def _continue_on_cpu(self, error: Exception) -> None:
        """Moves to the CPU after a fault of the device. Raises other errors."""
        with leave_device(self._device, error, self.__dict__):
            self._device, self._backend = CPU, select_backend("auto", self._model, CPU)

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)


def read_images(
    items: Sequence[PosedImage],
    size: tuple[int, int],
    makers: Mapping[str, RowMaker],
    bicubic: bool,
) -> Read:
    """Network inputs of a size (height, width), and further rows. bicubic: see `network_input`.

    Raises DatasetError for a damaged depth map.
    """

    def read(item: PosedImage) -> tuple[NDArray[np.float32], FileRows] | str:
        try:
            pixels = item.load()
            scaled = image.network_input(pixels, size, bicubic)
        except ImageError as error:
            return str(error)
        if is_of_one_colour(scaled):
            return f"{item.record.source}: the image is of one colour"
        return scaled, {file: maker.row(item, pixels) for file, maker in makers.items()}

    return [read(item) for item in items]


def encode(backend: Backend, domain: str, read: Read, config: DescriptorConfig) -> Encoded:
    """Descriptors of the images that could be read, in the order of the images."""
    images = [item[0] for item in read if not isinstance(item, str)]
    if not images:
        return [item for item in read if isinstance(item, str)]
    coarse, fine = describe(backend, domain, np.stack(images), config)
    rows = zip(coarse, fine, strict=True)
    return [item if isinstance(item, str) else (*next(rows), item[1]) for item in read]
