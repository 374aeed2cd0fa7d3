# SPDX-License-Identifier: Apache-2.0
"""Arrays of numpy on a CPU, tensors of torch on a device and in training: the same functions.

Torch is imported for tensors only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU

if TYPE_CHECKING:
    from torch import Tensor

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


def as_numpy(array: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
    """The array itself, or a tensor's numbers in the memory of the CPU."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
