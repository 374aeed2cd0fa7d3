# SPDX-License-Identifier: Apache-2.0
"""Backbones: images → features of three layers, two for the skips of the depth decoder, one latent.

VGG16 (Simonyan & Zisserman 2015) to conv5_3, AlexNet (Krizhevsky et al. 2012, as in torchvision) to
conv5 and ResNet18 (He et al. 2016) to layer3, without their last ReLU and with batch normalization
folded in (backbone_weights.py), and the encoders of this package. Initial weights are random:
Kaiming normal, biases 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.models import mobile
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.networks import Encoder

# Shallow, deep and latent features [B, C, h, w].
Features = tuple[Tensor, Tensor, Tensor]

# Mean and standard deviation of ImageNet's colours in [0, 1], for torchvision's weights.
COLOUR_MEAN, COLOUR_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


def build_backbone(config: GlobalConfig) -> nn.Module:
    """An untrained backbone: images [B, 3, H, W] in [−1, 1] → Features."""
    if config.backbone == "mobile":
        return Mobile()
    if config.backbone == "disam":
        return Disam(config.width, config.encoder_blocks)
    return {"vgg16": vgg16, "alexnet": alexnet, "resnet18": ResNet18}[config.backbone]()


def skip_levels(config: GlobalConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """(channels, stride) of the shallow and the deep features."""
    levels = {
        "vgg16": ((256, 4), (512, 8)),
        "resnet18": ((64, 4), (128, 8)),
        "alexnet": ((64, 4), (192, 8)),
        "mobile": ((24, 4), (40, 8)),
        "disam": ((2 * config.width, 2), (4 * config.width, 4)),
    }
    return levels[config.backbone]


def latent_size(config: GlobalConfig) -> tuple[int, int]:
    """Rows and columns of the latent features."""
    rows, columns = (side // config.stride for side in config.image_size)
    return (rows - 1, columns - 1) if config.backbone == "alexnet" else (rows, columns)


class Chain(nn.Module):
    """Sequential layers, numbered in `features` as in torchvision.

    cuts: numbers of layers before the shallow and the deep features.
    """

    def __init__(self, layers: list[nn.Module], cuts: tuple[int, int]) -> None:
        super().__init__()
        self.features, self._cuts = nn.Sequential(*layers), cuts
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        first, second = self._cuts
        shallow = self.features[:first](as_imagenet(images))
        deep = self.features[first:second](shallow)
        return shallow, deep, self.features[second:](deep)


def vgg16() -> Chain:
    """VGG16 up to conv5_3: 512 channels at stride 16; skips from conv3_3 and conv4_3."""
    layers: list[nn.Module] = []
    channels = 3
    for out, count in VGG16_STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            channels = out
        layers.append(nn.MaxPool2d(2))
    return Chain(layers[:-2], (16, 23))


def alexnet() -> Chain:
    """AlexNet up to conv5: 256 channels, [H/16 − 1, W/16 − 1]; skips from conv1 and conv2."""
    layers = [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        nn.Conv2d(256, 256, 3, padding=1),
    ]
    return Chain(layers, (2, 5))


class ResNet18(nn.Module):
    """ResNet18 up to layer3: 256 channels at stride 16; skips from layer1 and layer2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.layer1 = nn.Sequential(Residual(64, 64), Residual(64, 64))
        self.layer2 = nn.Sequential(Residual(64, 128, 2), Residual(128, 128))
        self.layer3 = nn.Sequential(Residual(128, 256, 2), Residual(256, 256, last=True))
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        x = functional.relu(self.conv1(as_imagenet(images)))
        shallow = self.layer1(functional.max_pool2d(x, 3, 2, 1))
        deep = self.layer2(shallow)
        return shallow, deep, self.layer3(deep)


class Residual(nn.Module):
    """Two 3×3 convolutions + skip, a 1×1 convolution where shapes differ; then ReLU.

    last: without the final ReLU.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, last: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        self.downsample = nn.Conv2d(channels, out, 1, stride) if channels != out else None
        self._last = last

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] → [B, C', h/stride, w/stride]
        y = self.conv2(functional.relu(self.conv1(x)))
        y = y + (x if self.downsample is None else self.downsample(x))
        return y if self._last else functional.relu(y)


class Mobile(nn.Module):
    """The mobile encoder, with skips from its stages 2 and 3."""

    def __init__(self) -> None:
        super().__init__()
        encoder = mobile.MobileEncoder()
        self.stem, self.blocks = encoder.stem, encoder.blocks

    def forward(self, image: Tensor) -> Features:
        x = functional.relu6(self.stem(image))
        skips = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in (2, 4):  # the last ones at strides 4 and 8
                skips.append(x)
        return skips[0], skips[1], x


class Disam(nn.Module):
    """DISAM's encoder, with skips from each downsampling."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.model = Encoder(width, blocks).model

    def forward(self, image: Tensor) -> Features:
        shallow = self.model[:7](image)
        deep = self.model[7:10](shallow)
        return shallow, deep, self.model[10:](deep)


def initialize(network: nn.Module) -> None:
    """Kaiming initialization: convolutions that keep the variance of their input."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def as_imagenet(images: Tensor) -> Tensor:
    """Images in [−1, 1], normalized by the mean and standard deviation of ImageNet."""
    mean, deviation = (
        torch.tensor(values, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        for values in (COLOUR_MEAN, COLOUR_DEVIATION)
    )
    return ((images + 1) / 2 - mean) / deviation
