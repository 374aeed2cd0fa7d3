# SPDX-License-Identifier: Apache-2.0
"""Aggregation heads: features [B, C, h, w] → one descriptor [B, D] of norm 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.errors import ModelError
from disam_ros.models.global_descriptors.config import GlobalConfig

SAMPLE = 20_000  # features for k-means, at most
TRIES = 5  # runs of k-means, of which the best is kept
CONTRAST = 100.0  # initial mean ratio of a feature's two largest assignments
SHARPNESS = 10.0  # of the assignments before `prepare`
GEM_EPSILON = 1e-6
SAFA_SCALE = 0.1  # of the initial random layers


def build_head(config: GlobalConfig, channels: int, size: tuple[int, int]) -> nn.Module:
    """An untrained head for features of a number of channels and size (rows, columns)."""
    if config.head == "netvlad":
        return NetVlad(channels, config.clusters)
    if config.head == "safa":
        return Safa(size, config.heads)
    return Gem() if config.head == "gem" else Mac()


class Mac(nn.Module):
    """Max pooling of each channel (Tolias et al., ICLR 2016). D = C."""

    def forward(self, z: Tensor) -> Tensor:
        return functional.normalize(z.amax((-2, -1)), dim=1)


class Gem(nn.Module):
    """Generalized-mean pooling with learned power p (Radenović et al., TPAMI 2019). D = C.

    (mean max(z, ε)^p)^(1/p): average pooling at p = 1, max pooling as p grows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, z: Tensor) -> Tensor:
        means = z.clamp_min(GEM_EPSILON).pow(self.power).mean((-2, -1))
        return functional.normalize(means.pow(1 / self.power), dim=1)


class NetVlad(nn.Module):
    """Soft-assigned residuals to cluster centres (Arandjelović et al., CVPR 2016, Eq. 4).

    Features are normalized; residual sums are normalized by centre (intra-normalization), then as
    a whole. D = clusters·C, the centre outermost.
    """

    def __init__(self, channels: int, clusters: int) -> None:
        super().__init__()
        self.assign = nn.Conv2d(channels, clusters, 1)
        self.centres = nn.Parameter(torch.empty(clusters, channels))
        self._initialize(functional.normalize(torch.randn(clusters, channels), dim=1), SHARPNESS)

    def forward(self, z: Tensor) -> Tensor:
        z = functional.normalize(z, dim=1)
        shares = self.assign(z).flatten(2).softmax(1)  # [B, K, h·w]
        sums = shares @ z.flatten(2).transpose(1, 2)  # [B, K, C]
        residuals = sums - shares.sum(2, keepdim=True) * self.centres
        return functional.normalize(functional.normalize(residuals, dim=2).flatten(1), dim=1)

    @torch.no_grad()
    def prepare(self, z: Tensor) -> None:
        """Initialize the centres by k-means on features [B, C, h, w] of a sample of images.

        Raises ModelError where there are fewer features than clusters.
        """
        import faiss  # needed by training alone

        features = functional.normalize(z, dim=1).permute(0, 2, 3, 1).flatten(0, 2).float().cpu()
        clusters, channels = self.centres.shape
        if len(features) < clusters:
            raise ModelError(
                f"{clusters} cluster centres need as many features, got {len(features)}: give more "
                f"or larger images"
            )
        chosen = torch.linspace(0, len(features) - 1, min(len(features), SAMPLE)).long()
        sample = features[chosen].contiguous().numpy()
        kmeans = faiss.Kmeans(
            channels, clusters, niter=20, nredo=TRIES, seed=1, min_points_per_centroid=1,
            max_points_per_centroid=SAMPLE,
        )  # fmt: skip
        kmeans.train(sample)
        sharpness = SHARPNESS
        if clusters > 1:
            squares, _ = kmeans.index.search(sample, 2)
            gap = float((squares[:, 1] - squares[:, 0]).mean())
            sharpness = math.log(CONTRAST) / max(gap, 1e-6)
        self._initialize(torch.from_numpy(kmeans.centroids).to(self.centres), sharpness)

    @torch.no_grad()
    def _initialize(self, centres: Tensor, sharpness: float) -> None:
        """Assignments proportional to exp(−sharpness·‖z − centre‖²)."""
        self.centres.copy_(centres)
        self.assign.weight.copy_(2 * sharpness * centres[..., None, None])
        if self.assign.bias is not None:
            self.assign.bias.copy_(-sharpness * centres.square().sum(1))


class Safa(nn.Module):
    """Spatial-aware feature aggregation (Shi et al., NeurIPS 2019). D = C·maps.

    Sums of the features weighted by position maps: each two linear layers over the channel maximum
    at all positions, so the image size is fixed. Initial maps are nearly 1 everywhere: a sum of the
    features.
    """

    def __init__(self, size: tuple[int, int], maps: int) -> None:
        super().__init__()
        cells = size[0] * size[1]
        middle = max(1, cells // 2)
        self.first = nn.Parameter(SAFA_SCALE * torch.randn(maps, cells, middle) / math.sqrt(cells))
        self.first_bias = nn.Parameter(torch.zeros(maps, 1, middle))
        self.second = nn.Parameter(
            SAFA_SCALE * torch.randn(maps, middle, cells) / math.sqrt(middle)
        )
        self.second_bias = nn.Parameter(torch.ones(maps, 1, cells))

    def forward(self, z: Tensor) -> Tensor:
        flat = z.flatten(2)  # [B, C, n]
        maxima = flat.amax(1)  # [B, n]
        maps = (maxima @ self.first + self.first_bias) @ self.second + self.second_bias  # [M, B, n]
        sums = flat @ maps.permute(1, 2, 0)  # [B, C, M]
        return functional.normalize(sums.flatten(1), dim=1)
