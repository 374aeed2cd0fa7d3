# SPDX-License-Identifier: Apache-2.0
"""Encoder, decoder and discriminator of DISAM.

One of each per domain, no weights shared between domains (Hu et al., IEEE/CAA JAS 2021, Sec. III;
the networks of ComboGAN). Weights start as N(0, 0.02), biases at 0. Instance normalization has
neither affine parameters nor running statistics; PReLU has one parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.errors import ModelError
from disam_ros.models import mobile

ENCODERS = ("disam", "mobile")
MOST = 1024  # channels of the first layer, and blocks
LARGEST_SIDE = 4096  # of a network's images [px]


@dataclass(frozen=True)
class NetworkConfig:
    """Kind and size of the networks. Latent features are [4·width, height/s, width_px/s].

    encoder: "disam", the paper's (stride s = 4), or "mobile", the EfficientNet-Lite0 backbone
    (s = 16, mobile.py), whose width is 28 and whose number of blocks is fixed.
    """

    width: int = 64  # channels of the first layer
    encoder_blocks: int = 4
    decoder_blocks: int = 5
    image_size: tuple[int, int] = (256, 256)  # height, width in pixels; multiples of s
    encoder: str = "disam"

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.encoder not in ENCODERS:
            raise ModelError(f"encoder must be one of {', '.join(ENCODERS)}, got '{self.encoder}'")
        if self.encoder == "mobile" and self.channels != mobile.CHANNELS:
            raise ModelError(
                f"the mobile encoder has width {mobile.CHANNELS // 4}, got {self.width}"
            )
        if not 1 <= self.width <= MOST:
            raise ModelError(f"width must be 1 to {MOST}, got {self.width}")
        if not (0 <= self.encoder_blocks <= MOST and 0 <= self.decoder_blocks <= MOST):
            raise ModelError(f"blocks must be 0 to {MOST}, got {self}")
        sound = min(height, width) >= 16 and max(height, width) <= LARGEST_SIDE
        if not sound or height % self.stride or width % self.stride:
            raise ModelError(
                f"image size must be multiples of {self.stride}, 16 to {LARGEST_SIDE}, got "
                f"{height}x{width}"
            )

    @property
    def depthwise(self) -> bool:
        """Whether convolutions are depthwise: a CPU runs those faster with channels last."""
        return self.encoder == "mobile"

    @property
    def channels(self) -> int:
        """Latent channels n."""
        return 4 * self.width

    @property
    def stride(self) -> int:
        """Stride of the latent features [px]."""
        return mobile.STRIDE if self.encoder == "mobile" else 4

    @property
    def feature_size(self) -> tuple[int, int]:
        """Rows and columns of the latent features."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride


PRESETS = {
    "full": NetworkConfig(),  # the paper's
    "lite": NetworkConfig(width=24, image_size=(96, 128)),  # for two CPU cores; docs/performance.md
    "mobile": NetworkConfig(width=28, image_size=(192, 256), encoder="mobile"),  # likewise
}


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
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
