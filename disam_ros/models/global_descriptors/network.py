# SPDX-License-Identifier: Apache-2.0
"""Global descriptor network: backbone, head, optional depth branch, optional whitening."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.models.global_descriptors.backbones import Features, build_backbone, latent_size
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.global_descriptors.depth import (
    DepthDecoder,
    DepthEncoder,
    HallucinationEncoder,
    known_depth,
)
from disam_ros.models.global_descriptors.heads import NetVlad, build_head
from disam_ros.models.global_descriptors.whitening import Whitening

BATCH = 8  # images at once in `prepare`


@dataclass(frozen=True)
class Parts:
    """Descriptors of norm 1 of a batch, before whitening. None: the network has no depth.

    The last three are those of a hallucination network that true depth was given to.
    """

    image: Tensor  # [B, d1]
    depth: Tensor | None  # [B, d2]
    fused: Tensor  # [B, d1 + d2], concatenated; `image` without depth
    depth_map: Tensor | None = None  # [B, 1, H/2, W/2] in (0, 1), of DEPTH_LIMIT
    true_depth: Tensor | None = None  # [B, d2], of the true depth map
    imitated: Tensor | None = None  # [B, C, h, w], features of the image that imitate …
    taught: Tensor | None = None  # … those of the true depth map


class GlobalNetwork(nn.Module):
    """Images [B, 3, H, W] in [−1, 1] → z [B, D, 1, 1] of norm 1. Initial weights are random."""

    def __init__(self, config: GlobalConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        self.head = build_head(config, config.latent, latent_size(config))
        self.decoder: DepthDecoder | None = None
        self.depth_encoder: DepthEncoder | None = None
        self.hallucination: HallucinationEncoder | None = None
        self.depth_head: nn.Module | None = None
        self.whitening: Whitening | None = None
        if config.depth:
            if config.hallucinated:
                self.hallucination = HallucinationEncoder(config.depth_latent)
            else:
                self.decoder = DepthDecoder(config)
            self.depth_encoder = DepthEncoder(config.depth_latent)
            self.depth_head = build_head(config, config.depth_latent, DepthEncoder.cells(config))
        if config.size:
            self.whitening = Whitening(config.plain, config.size)

    @property
    def kind(self) -> str:
        """Human-readable architecture."""
        config, parts = self.config, [self.config.backbone]
        counts = {"netvlad": f" of {config.clusters} clusters", "safa": f" of {config.heads} maps"}
        parts.append(config.head + counts.get(config.head, ""))
        if config.depth:
            parts.append("hallucinated depth" if config.hallucinated else "depth")
        size = f"{config.channels}-D"
        if self.whitening is not None:
            how = "PCA whitening" if self.whitening.learned else "random projection, NOT whitened"
            size += f" by {how}"
        return f"global descriptor: {', '.join([*parts, size])}"

    def forward(self, images: Tensor) -> Tensor:
        x = self.describe(images)
        if self.whitening is not None:
            x = functional.normalize(self.whitening(x), dim=1)
        return x[:, :, None, None]

    def describe(self, images: Tensor) -> Tensor:
        """Descriptors [B, plain] of norm 1 before whitening: the part trained by gradients."""
        return self.parts(images).fused

    def parts(self, images: Tensor, depth: Tensor | None = None) -> Parts:
        """Descriptors of image and depth map, and the depth map.

        No gradient passes from the descriptors to the depth decoder, nor from the depth map to the
        backbone: each is trained by its own loss. depth: true depth maps [B, 1, H/2, W/2] of
        DEPTH_LIMIT, NaN where unknown, that a hallucination network learns from.
        """
        features = self.backbone(images)
        image = self.head(features[-1])
        if self.depth_encoder is None or self.depth_head is None:
            return Parts(image, None, image)
        if self.hallucination is not None:
            imitated = self.hallucination(images)
            second = self.depth_head(imitated)
            fused = functional.normalize(torch.cat((image, second), 1), dim=1)
            if depth is None:
                return Parts(image, second, fused)
            taught = self.depth_encoder(known_depth(depth))
            true_depth = self.depth_head(taught)
            return Parts(
                image, second, fused, true_depth=true_depth, imitated=imitated, taught=taught
            )
        assert self.decoder is not None
        depth_map = self.decoder(_detached(features))
        second = self.depth_head(self.depth_encoder(depth_map.detach()))
        fused = functional.normalize(torch.cat((image, second), 1), dim=1)
        return Parts(image, second, fused, depth_map)

    def depth_parameters(self) -> list[nn.Parameter]:
        """Parameters trained by the depth loss: the decoder's. Empty without depth."""
        return [] if self.decoder is None else list(self.decoder.parameters())

    def descriptor_parameters(self) -> list[nn.Parameter]:
        """Parameters trained by the descriptor loss: all others."""
        depth = {id(parameter) for parameter in self.depth_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in depth]

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Initialize NetVLAD's centres by k-means on a sample of images [B, 3, H, W].

        No effect on other heads. Call it before training, after loading backbone weights. Raises
        ModelError for too few images.
        """
        if not isinstance(self.head, NetVlad):
            return
        latent, depth = [], []
        for start in range(0, len(images), BATCH):
            features = self.backbone(images[start : start + BATCH])
            latent.append(features[-1].cpu())
            if self.hallucination is not None:
                depth.append(self.hallucination(images[start : start + BATCH]).cpu())
            elif self.decoder is not None and self.depth_encoder is not None:
                depth.append(self.depth_encoder(self.decoder(_detached(features))).cpu())
        self.head.prepare(torch.cat(latent))
        if isinstance(self.depth_head, NetVlad):
            self.depth_head.prepare(torch.cat(depth))

    def learn_whitening(self, descriptors: Tensor) -> None:
        """Learn whitening from descriptors [N, plain] of `describe`; no effect if the size is 0.

        Raises ModelError where their rank is less than the size; it needs N > size.
        """
        if self.whitening is not None:
            self.whitening.learn(descriptors)


def _detached(features: Features) -> Features:
    shallow, deep, latent = features
    return shallow.detach(), deep.detach(), latent.detach()
