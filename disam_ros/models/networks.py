# SPDX-License-Identifier: Apache-2.0
"""Encoder, decoder and discriminator of DISAM.

One of each per domain, no weights shared between domains (Hu et al., IEEE/CAA JAS 2021, Sec. III;
the networks of ComboGAN). Weights start as N(0, 0.02), biases at 0. Instance normalization has
neither affine parameters nor running statistics; PReLU has one parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.models import mobile
from disam_ros.models.network_config import NetworkConfig


def build_encoder(config: NetworkConfig) -> nn.Module:
    """An untrained encoder: images [B, 3, H, W] in [−1, 1] → z [B, C, H/s, W/s]."""
    if config.encoder == "mobile":
        return mobile.MobileEncoder()
    return Encoder(config.width, config.encoder_blocks)


def build_decoder(config: NetworkConfig) -> Decoder:
    """An untrained decoder for the latent features of the encoder of a config."""
    return Decoder(config.width, config.decoder_blocks, config.stride.bit_length() - 1)


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
        change: Tensor = self.conv_block(x)
        return x + change


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
        z: Tensor = self.model(image)
        return z


class Decoder(nn.Module):
    """Latent features z [B, 4·width, h, w] → image [B, 3, 2^d·h, 2^d·w] in (−1, 1).

    doublings d: 2 in the paper; the channels are halved each time.
    """

    def __init__(self, width: int = 64, blocks: int = 5, doublings: int = 2) -> None:
        super().__init__()
        channels = 4 * width
        layers: list[nn.Module] = [ResidualBlock(channels) for _ in range(blocks)]
        for _ in range(doublings):
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)]
            channels //= 2
            layers += [nn.InstanceNorm2d(channels), nn.PReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.model(z)
        return image


class Discriminator(nn.Module):
    """Two parallel PatchGANs: one on luminance, one on blurred colour.

    forward: image [B, 3, H, W] → 8 prediction maps [B, 1, h, w], shallow to deep, luminance's four
    first. The last channel of each middle stage is a side prediction.
    """

    _luma: Tensor
    _blur: Tensor

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
    """Draws weights; none of shapes alone (meta device), which loads the compiler of torch."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and not module.weight.is_meta:
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
