# SPDX-License-Identifier: Apache-2.0
"""XFeat's network (Potje et al., XFeat: Accelerated Features for Lightweight Image Matching, CVPR
2024): keypoints, their reliability and descriptors of an image of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.features.learned.weights import load_weights

EXTRA, FILE = "xfeat", "xfeat.pt"
STRIDE = 32  # pixels that height and width of an input are multiples of
CELL = 8  # pixels of a cell of the outputs
EPSILON = 1e-5  # of the normalizations


class XFeatNetwork(nn.Module):
    """Backbone with three scales, fused at 1/8, and a keypoint head on the pixels of each cell."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.skip = _convolution(state, "skip1.1")
        self.block1 = _layers(state, "block1", (1, 2, 1, 2))
        self.block2 = _layers(state, "block2", (1, 1))
        self.block3 = _layers(state, "block3", (2, 1, 1))
        self.block4 = _layers(state, "block4", (2, 1, 1))
        self.block5 = _layers(state, "block5", (2, 1, 1, 1))
        self.fusion = _layers(state, "block_fusion", (1, 1, 1))
        self.reliability = _layers(state, "heatmap_head", (1, 1, 1))
        self.keypoints = _layers(state, "keypoint_head", (1, 1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Grey levels [1, 1, H, W] of zero mean and unit variance, H and W multiples of STRIDE →
        descriptors [1, 64, H/8, W/8], keypoint logits [1, 65, H/8, W/8] (the cell's 64 pixels row
        by row, and none), reliability [1, 1, H/8, W/8]."""
        quarter = self.block1(image) + self.skip(functional.avg_pool2d(image, 4))
        eighth = self.block3(self.block2(quarter))
        sixteenth = self.block4(eighth)
        last = self.block5(sixteenth)
        size = eighth.shape[-2:]
        fused = eighth + _enlarged(sixteenth, size) + _enlarged(last, size)
        descriptors = self.fusion(fused)
        logits = self.keypoints(functional.pixel_unshuffle(image, CELL))
        return descriptors, logits, torch.sigmoid(self.reliability(descriptors))


def load_xfeat(device: str = "cpu") -> XFeatNetwork:
    """The network with the weights of the installed package. Raises ConfigError, ModelError."""
    return XFeatNetwork(load_weights(EXTRA, FILE, device)).eval()


def _enlarged(features: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)


def _layers(state: dict[str, Tensor], block: str, strides: tuple[int, ...]) -> nn.Sequential:
    """Convolutions of a block; those with a normalization are followed by ReLU."""
    layers: list[nn.Module] = []
    for index, stride in enumerate(strides):
        name = f"{block}.{index}"
        if f"{name}.weight" in state:
            layers.append(_convolution(state, name))
            continue
        layers += [_normalized(state, f"{name}.layer", stride), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _convolution(state: dict[str, Tensor], name: str) -> nn.Conv2d:
    return _conv(state[f"{name}.weight"], state[f"{name}.bias"], 1)


def _normalized(state: dict[str, Tensor], name: str, stride: int) -> nn.Conv2d:
    """A convolution with the batch normalization after it folded in."""
    scale = (state[f"{name}.1.running_var"] + EPSILON).rsqrt()
    weight = state[f"{name}.0.weight"] * scale[:, None, None, None]
    return _conv(weight, -state[f"{name}.1.running_mean"] * scale, stride)


def _conv(weight: Tensor, bias: Tensor, stride: int) -> nn.Conv2d:
    size = weight.shape[2]
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], size, stride, padding=size // 2)
    layer.weight.data, layer.bias.data = weight, bias  # type: ignore[union-attr]
    return layer.requires_grad_(False)
