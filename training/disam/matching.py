# SPDX-License-Identifier: Apache-2.0
"""The similarities of retrieval between all features of two sets, for losses and validation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from disam_ros.config import DescriptorConfig
from disam_ros.models.similarity import (
    coarse_descriptor,
    fine_descriptor,
    grid_of,
    is_one_cell,
    normalize,
    pool,
    shifted_similarities,
    shifts_of,
)

Similarity = Callable[[Tensor, Tensor], Tensor]  # [A, C, h, w], [B, C, h, w] → [A, B]


def similarity_of(stage: str, config: DescriptorConfig) -> Similarity:
    """Returns the fine similarity for the stage 'fine', else the coarse one."""
    return partial(fine_similarities if stage == "fine" else coarse_similarities, config=config)


def coarse_similarities(z_a: Tensor, z_b: Tensor, config: DescriptorConfig) -> Tensor:
    """Coarse similarity [A, B], Eq. 16, of features [A, C, h, w] and [B, C, h, w]."""
    return coarse_descriptor(z_a, config) @ coarse_descriptor(z_b, config).T


def fine_similarities(z_a: Tensor, z_b: Tensor, config: DescriptorConfig) -> Tensor:
    """Fine similarity [A, B]: the best cosine over shifts of queries [A, C, h, w] and map images.

    The mean of the map images [B, C, h, w] per channel is subtracted from both. For the paper's
    retrieval the cosine alone.
    """
    if config.as_in_paper:
        return fine_descriptor(z_a, config) @ fine_descriptor(z_b, config).T
    a, b = (normalize(pool(z, grid_of("fine", config))) for z in (z_a, z_b))
    if not is_one_cell(b):
        mean = b.mean((0, 2, 3))[:, None, None]
        a, b = a - mean, b - mean
    return shifted_similarities(a, b, shifts_of(b.shape, config)).amax(-1)
