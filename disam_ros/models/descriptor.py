# SPDX-License-Identifier: Apache-2.0
"""Compact image descriptors whose inner product is the coarse or fine similarity.

Features are average-pooled to a grid, then normalized for the metric (Eq. 16 or cosine). The paper
compares them whole (`retrieval: paper`).

A global model's features, and an imported descriptor's, are one cell [B, C, 1, 1]. Both
similarities are then the cosine of the C channels: Eq. 16 compares the spatial layout of each
channel, and one cell has only a sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import DescriptorConfig
from disam_ros.models.arrays import Array, as_numpy, like
from disam_ros.models.network_config import LARGEST_SIDE
from disam_ros.models.similarity import Shifts, channel_normalize, normalize

if TYPE_CHECKING:
    from disam_ros.models.backend import Backend
    from disam_ros.models.kinds import Network


def describe(
    backend: Backend, domain: str, images: NDArray[np.float32], config: DescriptorConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Descriptors [B, D_coarse], [B, D_fine] of images [B, 3, H, W] of one domain."""
    z_coarse, z_fine = backend.encode(domain, images)
    coarse = coarse_descriptor(z_coarse, config)
    return as_numpy(coarse), as_numpy(fine_descriptor(z_fine, config))


def coarse_descriptor(z: Array, config: DescriptorConfig) -> Array:
    """Coarse features [B, C, h, w] → descriptors [B, D]; inner product = Eq. 16, norm ≤ 1.

    Features of one cell: inner product = cosine, norm 1.
    """
    pooled = pool(z, grid_of("coarse", config))
    if is_one_cell(pooled):
        return normalize(pooled).reshape(len(z), -1)
    return channel_normalize(pooled).reshape(len(z), -1) / math.sqrt(z.shape[1])


def shifted_descriptors(
    z: Array, config: DescriptorConfig, seen: NDArray[np.float32] | None = None
) -> Array:
    """Coarse descriptors [5, D] of features [1, C, h, w] moved sideways in five steps, 0 outside.

    In the middle the view itself; before and after it, as if seen from another lane. [1, D] for the
    paper's retrieval, and where the grid is too small for a shift. seen: cells of the pooled grid
    that count, 1 or 0; None: all.
    """
    pooled = pool(z, grid_of("coarse", config))
    pooled = pooled if seen is None else pooled * like(seen, pooled)
    most = shifts_of(pooled.shape, config).columns
    chosen = sorted({most + round(most * share) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)})
    moved = Shifts(0, most).apply(pooled[0])[chosen]
    return coarse_descriptor(moved, config)


def fine_descriptor(z: Array, config: DescriptorConfig) -> Array:
    """Fine features [B, C, h, w] → descriptors [B, D]; inner product = cosine, norm 1."""
    return normalize(pool(z, grid_of("fine", config))).reshape(len(z), -1)


def grid_of(stage: str, config: DescriptorConfig) -> int:
    """Cells along the longer side that a stage's features are pooled to; as many as they have for
    the paper's retrieval."""
    if config.as_in_paper:
        return LARGEST_SIDE
    return config.fine_grid if stage == "fine" else config.coarse_grid


def shifts_of(shape: Sequence[int], config: DescriptorConfig) -> Shifts:
    """Shifts over which features [..., h, w] are compared: none for the paper's retrieval."""
    return Shifts(0, 0) if config.as_in_paper else Shifts.of_grid(*shape[-2:])


def pool(z: Array, grid: int) -> Array:
    """Average features [B, C, h, w] over `grid` cells along the longer side; one cell stays."""
    height, width = z.shape[-2:]
    rows, columns = grid_shape(height, width, grid)
    if (rows, columns) == (height, width):
        return z
    if isinstance(z, np.ndarray):
        across = _averages(width, columns).astype(z.dtype)
        return np.asarray(_averages(height, rows).astype(z.dtype) @ (z @ across.T), z.dtype)
    from torch.nn import functional

    return functional.adaptive_avg_pool2d(z, (rows, columns))


@cache
def _averages(size: int, count: int) -> NDArray[np.float64]:
    """Weights [count, size] of the averages over cells, which overlap where they do not divide the
    size; as adaptive pooling of torch."""
    starts = np.arange(count) * size // count
    ends = -(-(np.arange(count) + 1) * size // count)
    at = np.arange(size)
    inside = (at >= starts[:, None]) & (at < ends[:, None])
    weights: NDArray[np.float64] = inside / inside.sum(1, keepdims=True)
    return weights


def is_one_cell(z: Array) -> bool:
    """Whether features [..., h, w] are a global descriptor."""
    return tuple(z.shape[-2:]) == (1, 1)


def grid_shape(height: int, width: int, grid: int) -> tuple[int, int]:
    """Rows and columns of a grid with `grid` cells along the longer side of a feature map.

    Cells are square as nearly as can be; there are never more cells than features.
    """
    scale = min(1.0, grid / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def descriptor_shapes(
    network: Network, config: DescriptorConfig
) -> dict[str, tuple[int, int, int]]:
    """Shape (C, rows, columns) of one coarse and one fine descriptor before flattening."""
    return {
        stage: (network.channels, *grid_shape(*network.feature_size, grid_of(stage, config)))
        for stage in ("coarse", "fine")
    }
