# SPDX-License-Identifier: Apache-2.0
"""Arrays of images and features: of numpy on a CPU, of torch on a device and in training.

The same functions take both; torch is imported for tensors only. Features are checked: damaged
weights give NaN, zeros or the same in every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.errors import BlindError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = 3  # images to compare two runtimes or precisions with
SEED = 0

Array = TypeVar("Array", NDArray[np.float32], "Tensor")  # of numpy or of torch


def like(array: NDArray[np.float32], other: Array) -> Array:
    """The array as one of the kind, the precision and on the device of another."""
    if isinstance(other, np.ndarray):
        return array.astype(other.dtype, copy=False)
    import torch

    return torch.from_numpy(array).to(other)


def on_device(array: NDArray[np.float32], device: str) -> Any:
    """The array itself for a CPU, else a tensor on the device."""
    if device == CPU:
        return array
    import torch

    return torch.from_numpy(array).to(device)


def concatenate(arrays: Sequence[Array]) -> Array:
    """Arrays of one kind along their first axis; one alone as it is."""
    if len(arrays) == 1:
        return arrays[0]
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays)
    import torch

    return torch.cat(list(arrays))


def as_numpy(array: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
    """The array itself, or a tensor's numbers in the memory of the CPU."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def require_features(z: Array, images: Array, source: str) -> Array:
    """The features z [B, C, h, w] of images [B, 3, H, W], which are finite and vary.

    They vary over the cells of a channel, or over the channels where there is one cell. source: the
    encoder's file, for the error. Raises ModelError, or BlindError for images of one colour.
    """
    count, channels, *cells = z.shape
    values = z.reshape(count, channels, -1) if cells != [1, 1] else z.reshape(count, 1, -1)
    spread = _spread(values)  # [B, C] or [B, 1]
    finite = np.isfinite(spread).all(1)
    sound = finite & (spread.max(1) > 0.0)
    if sound.all():
        return z
    if not _spread(images.reshape(count, -1))[~sound].any():
        raise BlindError("the image is of one colour: there is nothing to recognize a place by")
    fault = "have no variance" if finite.all() else "are not finite"
    raise ModelError(
        f"{source} gives features that {fault}: its weights are damaged or do not suit this "
        f"device; take a sound copy of the model"
    )


def is_of_one_colour(image: NDArray[np.float32]) -> bool:
    """Whether a network input [3, H, W] shows nothing at all."""
    return bool(image.min() == image.max())


def sample_images(size: tuple[int, int]) -> NDArray[np.float32]:
    """Images [SAMPLES, 3, H, W] in [−1, 1] with the statistics of real ones, without any file.

    Noise whose amplitude falls with frequency as that of natural images (Field, JOSA A 1987): by
    day, by night with lights, and in black and white.
    """
    rng = np.random.default_rng(SEED)
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    spectrum = np.fft.rfft2(rng.standard_normal((SAMPLES, 3, *size))) / (frequency + 1 / max(size))
    images = np.fft.irfft2(spectrum, size)
    images /= np.abs(images).max((1, 2, 3), keepdims=True)
    images[1] = np.where(images[1] > 0.5, 1.0, 0.1 * images[1] - 0.9)
    images[2] = np.sign(images[2])
    return np.asarray(images, np.float32)


def _spread(values: Array) -> NDArray[np.float32]:
    """Largest less smallest number along the last axis, on the CPU; nan if any is nan."""
    if isinstance(values, np.ndarray):
        with np.errstate(invalid="ignore"):  # inf less inf
            return np.asarray(values.max(-1) - values.min(-1))
    return as_numpy(values.amax(-1) - values.amin(-1))
