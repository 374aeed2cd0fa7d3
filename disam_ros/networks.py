# SPDX-License-Identifier: Apache-2.0
"""Encoder, decoder and discriminator of DISAM: the core model module that training shares.

One of each per domain, nothing shared between domains (Hu et al., IEEE/CAA JAS 2021, Sec. III;
the networks of ComboGAN). Weights start as N(0, 0.02), biases at 0. Instance normalization has
neither affine parameters nor running statistics; PReLU has one parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.errors import ModelError


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the networks. Latent features are [4·width, height/4, width_px/4]."""

    width: int = 64  # channels of the first layer
    encoder_blocks: int = 4
    decoder_blocks: int = 5
    image_size: tuple[int, int] = (256, 256)  # height, width in pixels; multiples of 4

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.width < 1 or self.encoder_blocks < 0 or self.decoder_blocks < 0:
            raise ModelError(f"width must be ≥ 1 and blocks ≥ 0, got {self}")
        if height < 16 or width < 16 or height % 4 or width % 4:
            raise ModelError(f"image size must be multiples of 4 and ≥ 16, got {height}x{width}")

    @property
    def channels(self) -> int:
        """Latent channels n."""
        return 4 * self.width


PRESETS = {
    "full": NetworkConfig(),  # the paper's
    "lite": NetworkConfig(width=24, image_size=(96, 128)),  # two CPU cores; docs/performance.md
}


class ResidualBlock(nn.Module):
    """[reflect 1, conv 3×3, IN, PReLU, reflect 1, conv 3×3, IN] + skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.PReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] → same
        return x + self.conv_block(x)


class Encoder(nn.Module):
    """Image [B, 3, H, W] in [−1, 1] → latent features z [B, 4·width, H/4, W/4]."""

    def __init__(self, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.width, self.blocks = width, blocks
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
        layers += [nn.InstanceNorm2d(width), nn.PReLU()]
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)]
            layers += [nn.InstanceNorm2d(2 * channels), nn.PReLU()]
        layers += [ResidualBlock(4 * width) for _ in range(blocks)]
        self.model = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image)


class Decoder(nn.Module):
    """Latent features z [B, 4·width, h, w] → image [B, 3, 4h, 4w] in (−1, 1)."""

    def __init__(self, width: int = 64, blocks: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = [ResidualBlock(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)]
            layers += [nn.InstanceNorm2d(channels // 2), nn.PReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z)


class Discriminator(nn.Module):
    """Two parallel PatchGANs: one on luminance, one on the blurred colours.

    forward: image [B, 3, H, W] → 8 prediction maps [B, 1, h, w], coarse to deep, luminance's four
    first. Each middle stage gives its last channel away as a side prediction.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.luminance = _patch_stages(1, width)
        self.colour = _patch_stages(3, width)
        self.register_buffer("_luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), False)
        self.register_buffer("_blur", _gaussian(5, 3.0).expand(3, 1, 5, 5).clone(), False)
        self.apply(_initialize)

    def forward(self, image: Tensor) -> list[Tensor]:
        grey = (image * self._luma).sum(1, keepdim=True)
        blurred = functional.conv2d(image, self._blur, padding=2, groups=3)
        return _predictions(self.luminance, grey) + _predictions(self.colour, blurred)


def _patch_stages(inputs: int, width: int) -> nn.ModuleList:
    stages = [nn.Sequential(nn.Conv2d(inputs, width, 4, stride=2, padding=2), nn.PReLU())]
    for channels in (width, 2 * width, 4 * width):
        out = 2 * channels + 1
        conv = nn.Conv2d(channels, out, 4, stride=2, padding=2)
        stages.append(nn.Sequential(conv, nn.InstanceNorm2d(out), nn.PReLU()))
    deep = 8 * width
    stages.append(
        nn.Sequential(
            nn.Conv2d(deep, deep, 4, padding=2),
            nn.InstanceNorm2d(deep),
            nn.PReLU(),
            nn.Conv2d(deep, 1, 4, padding=2),
        )
    )
    return nn.ModuleList(stages)


def _predictions(stages: nn.ModuleList, x: Tensor) -> list[Tensor]:
    x = stages[0](x)
    predictions = []
    for stage in list(stages)[1:-1]:
        x = stage(x)
        predictions.append(x[:, -1:])
        x = x[:, :-1]
    return [*predictions, stages[-1](x)]


def _gaussian(size: int, sigma: float) -> Tensor:
    """Normalised Gaussian kernel [1, 1, size, size]."""
    x = torch.arange(size) - (size - 1) / 2
    line = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum()).view(1, 1, size, size)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
