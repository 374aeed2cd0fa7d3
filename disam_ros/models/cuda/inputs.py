# SPDX-License-Identifier: Apache-2.0
"""Network inputs made on a device: pixels go there as they are, 8 bits each.

Resizing is separable and linear, so it is two matrix products. Their matrices are what OpenCV makes
of an identity matrix: the same as `image.network_input` but for ties of rounding, one level of 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.device import is_cuda, is_integrated
from disam_ros.image import check_image, network_input

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 4096  # pixels of a side whose matrix is made; larger images are resized on the CPU
Pixels = NDArray[np.uint8]  # RGB [H, W, 3]
Size = tuple[int, int]  # height and width [px]


class DeviceInputs:
    """Camera images → network inputs of a size on a device; one upload for those of one shape."""

    def __init__(self, size: Size, device: str) -> None:
        self._size, self._device = size, device
        self._resizing: dict[Size, tuple[Tensor, Tensor]] = {}
        # A GPU with memory of its own copies from pinned memory without the CPU's help.
        self._pins = is_cuda(device) and not is_integrated(device)
        self._pinned: Tensor | None = None
        self._copied: Any = None  # event: the last copy out of the pinned memory is done
        self._lock = Lock()  # of pinned memory and matrices

    def __call__(self, images: Sequence[Pixels]) -> Tensor:
        """Images uint8 RGB [H, W, 3] → float32 [B, 3, height, width] in [−1, 1]. Raises
        ImageError."""
        for image in images:
            check_image(image)
        with self._lock:
            return self._prepare(images)

    def _prepare(self, images: Sequence[Pixels]) -> Tensor:
        import torch

        if len({image.shape for image in images}) > 1:
            return torch.cat([self._prepare([image]) for image in images])
        shape = (images[0].shape[0], images[0].shape[1])
        if not can_resize(shape, self._size):
            prepared = np.stack([network_input(image, self._size) for image in images])
            return torch.from_numpy(prepared).to(self._device)
        pixels = self._upload(images).permute(0, 3, 1, 2).float()
        if shape != self._size:
            if shape not in self._resizing:
                self._resizing = {shape: resizing(shape, self._size, self._device)}
            rows, columns = self._resizing[shape]
            pixels = (rows @ pixels @ columns.T).round().clamp(0.0, 255.0)
        return (pixels / 127.5 - 1.0).contiguous()

    def _upload(self, images: Sequence[Pixels]) -> Tensor:
        """Images of one shape → uint8 [B, H, W, 3] on the device."""
        import torch

        if not self._pins:
            return torch.from_numpy(np.stack(images)).to(self._device)
        shape = (len(images), *images[0].shape)
        if self._pinned is None or self._pinned.shape != shape:
            self._pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._copied = torch.cuda.Event()
        self._copied.synchronize()
        np.stack(images, out=self._pinned.numpy())
        uploaded = self._pinned.to(self._device, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
        return uploaded


def can_resize(shape: Size, size: Size) -> bool:
    """Whether matrices can resize: an image that shrinks one way and grows the other is resized by
    OpenCV in a mixed form."""
    shrinks = [have > want for have, want in zip(shape, size, strict=True)]
    grows = [have < want for have, want in zip(shape, size, strict=True)]
    return max(shape) <= LARGEST and not (any(shrinks) and any(grows))


def resizing(shape: Size, size: Size, device: str) -> tuple[Tensor, Tensor]:
    """Matrices [height, H] and [width, W] of the resizing of images of a shape (H, W)."""
    import torch

    shrinks = any(have > want for have, want in zip(shape, size, strict=True))
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    rows, columns = (
        cv2.resize(np.eye(have, dtype=np.float32), (have, want), interpolation=method)
        for have, want in zip(shape, size, strict=True)
    )
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
