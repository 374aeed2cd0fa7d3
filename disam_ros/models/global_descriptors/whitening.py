# SPDX-License-Identifier: Apache-2.0
"""PCA whitening: principal components of descriptors, scaled to equal variance.

Jégou & Chum, ECCV 2012. The result is normalized afterwards, so a common scale has no effect: all
are scaled to the variance of the first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from disam_ros.errors import ModelError

NEGLIGIBLE = 1e-7  # share of the largest variance below which a component is rounding


class Whitening(nn.Module):
    """Descriptors [N, D] → [N, size]. Before `learn` a random projection."""

    mean: Tensor
    directions: Tensor
    learned: Tensor

    def __init__(self, dimensions: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("directions", torch.randn(size, dimensions) / math.sqrt(size))
        self.register_buffer("learned", torch.zeros(()))  # 1 after `learn`

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.directions.T

    @torch.no_grad()
    def learn(self, descriptors: Tensor) -> None:
        """Learn from descriptors [N, D]. Raises ModelError where their rank is too small."""
        size, dimensions = self.directions.shape
        if descriptors.ndim != 2 or descriptors.shape[1] != dimensions:
            raise ModelError(
                f"whitening expects descriptors [N, {dimensions}], got {list(descriptors.shape)}"
            )
        x = descriptors.detach().cpu().double()
        if not torch.isfinite(x).all():
            raise ModelError("whitening got descriptors that are not finite: training has diverged")
        mean = x.mean(0) if len(x) else x.new_zeros(dimensions)
        x = x - mean
        few = len(x) <= dimensions  # then the Gram matrix is smaller than the covariance
        variances, vectors = torch.linalg.eigh(x @ x.T if few else x.T @ x)
        order = variances.argsort(descending=True)[:size]
        largest = float(variances.max()) if len(x) else 0.0
        rank = int((variances[order] > max(NEGLIGIBLE * largest, 1e-30)).sum())
        if rank < size:
            raise ModelError(
                f"whitening to {size} numbers needs descriptors that vary in as many directions, "
                f"got {len(x)} that vary in {rank}: give more images or a smaller size"
            )
        variances, directions = variances[order, None], vectors[:, order].T
        if few:
            directions = directions @ x / variances.sqrt()
        self.mean.copy_(mean)
        self.directions.copy_(directions * (variances[0] / variances).sqrt())
        self.learned.fill_(1)
