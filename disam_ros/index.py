# SPDX-License-Identifier: Apache-2.0
"""Coarse search: the N map images with the largest inner product.

CPU: a faiss inner-product index in the map's number format. GPU: an exact matrix product with the
map's descriptors resident. Both are exact up to the format the map stores.
"""

from __future__ import annotations

from typing import Protocol

import faiss
import numpy as np
import torch
from torch import Tensor

CHUNK = 4096  # rows converted to float32 at once while an index is filled


class CoarseIndex(Protocol):
    def search(self, query: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores of the best `count` (or all, if fewer), best first.

        query: [D]. Returns int64 [n] and float32 [n].
        """


class FaissIndex:
    """Descriptors [N, D] (float16 or float32, possibly memory-mapped) in a flat faiss index."""

    def __init__(self, descriptors: np.ndarray) -> None:
        count, size = descriptors.shape
        if descriptors.dtype == np.float16:
            kind = faiss.ScalarQuantizer.QT_fp16
            self._index = faiss.IndexScalarQuantizer(size, kind, faiss.METRIC_INNER_PRODUCT)
        else:
            self._index = faiss.IndexFlatIP(size)
        for start in range(0, count, CHUNK):
            self._index.add(np.ascontiguousarray(descriptors[start : start + CHUNK], np.float32))

    def search(self, query: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        count = min(count, self._index.ntotal)
        scores, rows = self._index.search(query.float().cpu().numpy()[None], count)
        return rows[0], scores[0]


class TorchIndex:
    """Descriptors [N, D] resident on a device; search is one matrix–vector product."""

    def __init__(self, descriptors: np.ndarray, device: torch.device | str) -> None:
        self._descriptors = torch.from_numpy(np.array(descriptors)).to(device)

    def search(self, query: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        scores = self._descriptors @ query.to(self._descriptors)
        best = scores.float().topk(min(count, len(scores)))
        return best.indices.cpu().numpy(), best.values.cpu().numpy()


def build_index(descriptors: np.ndarray, device: torch.device) -> CoarseIndex:
    """The index that fits the device."""
    if device.type == "cpu":
        return FaissIndex(descriptors)
    return TorchIndex(descriptors, device)
