# SPDX-License-Identifier: Apache-2.0
"""Fine descriptors of a map for comparisons: on a CPU read from the file, on a GPU kept there.

Half of the device's free memory may be taken; else, and where CPU and GPU share their memory, the
few rows that are wanted go to the device each time, as bytes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU, is_cuda, is_integrated
from disam_ros.mapping.rows import Rows

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

CHUNK = 4096  # rows copied to the device at once
SHARE = 0.5  # of the free memory


class FineRows:
    """Rows of fine descriptors as float32, of numpy on a CPU, of torch on another device."""

    def __init__(self, rows: Rows, device: str) -> None:
        self._rows, self._device = rows, device
        self._kept: dict[int, NDArray[np.int8]] = {}
        self.resident: Tensor | None = None
        if is_cuda(device) and not is_integrated(device) and _fits(rows, device):
            self.resident = to_device(rows, device)

    def of(self, rows: NDArray[np.int64]) -> Any:
        """Descriptors float32 [n, D] of map images."""
        if self._device == CPU:
            return self._read(rows).astype(np.float32)
        import torch

        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self._device)].float()
        return torch.from_numpy(self._read(rows)).to(self._device).float()

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keeps rows in memory that are asked for with every image."""
        if self.resident is None:
            self._kept.update(zip(rows.tolist(), self._rows[rows], strict=True))

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.int8]:
        """Rows [n, D] of the map, those that are kept from memory."""
        kept = np.array([row in self._kept for row in rows.tolist()], bool)
        if not kept.any():
            return np.ascontiguousarray(self._rows[rows])
        values = np.empty((len(rows), self._rows.shape[1]), np.int8)
        values[~kept] = self._rows[rows[~kept]]
        for at in np.flatnonzero(kept).tolist():
            values[at] = self._kept[int(rows[at])]
        return values


def to_device(rows: Rows, device: str) -> Tensor | None:
    """A copy int8 [N, D] on the device; None where another program has taken the memory."""
    import torch

    try:
        kept = torch.empty(rows.shape, dtype=torch.int8, device=device)
        for start in range(0, len(rows), CHUNK):
            part = np.array(rows[start : start + CHUNK])
            kept[start : start + CHUNK] = torch.from_numpy(part).to(device)
        return kept
    except torch.cuda.OutOfMemoryError:
        logger.warning("fine descriptors stay in the CPU's memory: %s has too little", device)
        return None


def _fits(rows: Rows, device: str) -> bool:
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return bool(rows.nbytes <= SHARE * free)
