# SPDX-License-Identifier: Apache-2.0
"""Depth as side information: a decoder from image features to depth, and an encoder of depth maps.

Depth maps are needed in training only (Piasco et al., ICRA 2019): the decoder learns to predict
them from the camera image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.models.global_descriptors.backbones import Features, initialize, skip_levels
from disam_ros.models.global_descriptors.config import GlobalConfig

DEPTH_LIMIT = 100.0  # [m] depth of a decoder output of 1
OUTPUT_STRIDE = 2  # of the depth map [px]
LAST_CHANNELS = 16


class DepthDecoder(nn.Module):
    """Features → depth [B, 1, H/2, W/2] in (0, 1) of DEPTH_LIMIT, by transposed convolutions."""

    def __init__(self, config: GlobalConfig) -> None:
        super().__init__()
        (shallow, shallow_stride), (deep, deep_stride) = skip_levels(config)
        self.rise_to_deep = _rise(config.latent, deep, config.stride // deep_stride)
        self.join_deep = _rise(2 * deep, deep, 1)
        self.rise_to_shallow = _rise(deep, shallow, deep_stride // shallow_stride)
        self.join_shallow = _rise(2 * shallow, shallow, 1)
        self.rise_to_output = _rise(shallow, LAST_CHANNELS, shallow_stride // OUTPUT_STRIDE)
        self.last = nn.Conv2d(LAST_CHANNELS, 1, 3, padding=1)
        height, width = config.image_size
        self._size = (height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)

    def forward(self, features: Features) -> Tensor:
        shallow, deep, latent = features
        x = self.join_deep(torch.cat((_fit(self.rise_to_deep(latent), deep.shape[-2:]), deep), 1))
        x = _fit(self.rise_to_shallow(x), shallow.shape[-2:])
        x = self.join_shallow(torch.cat((x, shallow), 1))
        return torch.sigmoid(_fit(self.last(self.rise_to_output(x)), self._size))


class DepthEncoder(nn.Module):
    """Depth map [B, 1, h, w] in [0, 1] → features [B, C, ~h/16, ~w/16]: AlexNet on its jet colours.

    No final ReLU. C = 256 as in AlexNet, or fewer, with all layers scaled in proportion.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = _alexnet(channels)
        initialize(self)

    def forward(self, depth: Tensor) -> Tensor:
        z: Tensor = self.layers(2 * jet(depth) - 1)
        return z

    @staticmethod
    def cells(config: GlobalConfig) -> tuple[int, int]:
        """Rows and columns of the features: every stride of 2 rounds up."""
        rows, columns = (-(-side // (16 * OUTPUT_STRIDE)) for side in config.image_size)
        return rows, columns


class HallucinationEncoder(nn.Module):
    """Images [B, 3, H, W] → features as DepthEncoder makes of their depth maps (Hoffman et al.,
    CVPR 2016): the same layers on the image at the depth map's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = _alexnet(channels)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        z: Tensor = self.layers(functional.avg_pool2d(images, OUTPUT_STRIDE))
        return z


def known_depth(depth: Tensor) -> Tensor:
    """Depth maps in [0, 1] of DEPTH_LIMIT; what is unknown or beyond it counts as 1."""
    return depth.nan_to_num(1.0, posinf=1.0).clamp(0.0, 1.0)


def _alexnet(channels: int) -> nn.Sequential:
    """AlexNet's convolutions with so many channels at the end, padded to keep border cells."""
    a, b, c = channels // 4, 3 * channels // 4, 3 * channels // 2
    return nn.Sequential(
        nn.Conv2d(3, a, 11, stride=4, padding=5),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(a, b, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(b, c, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )


def jet(values: Tensor) -> Tensor:
    """Jet colour map: values [B, 1, h, w] in [0, 1] → RGB [B, 3, h, w] in [0, 1], blue to red.

    Each colour is min(1, max(0, 1.5 − |4v − p|)) with its peak p = 3 (red), 2 (green), 1 (blue).
    """
    peaks = values.new_tensor([3.0, 2.0, 1.0]).view(1, 3, 1, 1)
    return (1.5 - (4 * values - peaks).abs()).clamp(0, 1)


def _rise(channels: int, out: int, factor: int) -> nn.Sequential:
    """Convolution that upsamples by `factor` (1 or 2)."""
    if factor == 2:
        convolution: nn.Module = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
    else:
        convolution = nn.Conv2d(channels, out, 3, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(1, out), nn.ReLU())


def _fit(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Interpolate to a size (rows, columns): AlexNet's features lack a border cell."""
    if x.shape[-2:] == tuple(size):
        return x
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
