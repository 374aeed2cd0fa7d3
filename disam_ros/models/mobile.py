# SPDX-License-Identifier: Apache-2.0
"""Mobile encoder: the EfficientNet-Lite0 backbone, cut at stride 16, with batch norm folded in.

Tan & Le, EfficientNet (ICML 2019); the Lite variant has neither squeeze-and-excitation nor swish.
The backbone is cut after block 10 of 15, at the output of a linear bottleneck. Batch normalization
is folded into the convolutions when a weight file is read: an encoder has convolutions and biases
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.errors import ModelError
from disam_ros.models.network_config import MOBILE_CHANNELS
from disam_ros.models.state_files import read_state

BATCH_NORM_EPSILON = 1e-3
STEM = 32  # channels
STAGES = (  # expansion, channels, blocks, kernel, stride of the first block
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, MOBILE_CHANNELS, 3, 5, 1),
)


class MobileEncoder(nn.Module):
    """Image [B, 3, H, W] in [−1, 1] → latent features z [B, 112, H/16, W/16]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, STEM, 3, stride=2)
        blocks, channels = [], STEM
        for expansion, out, count, kernel, stride in STAGES:
            for k in range(count):
                step = 1 if k else stride
                blocks.append(InvertedResidual(channels, expansion, out, kernel, step))
                channels = out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu6(self.stem(image))
        for block in self.blocks:
            x = block(x)
        return x


class InvertedResidual(nn.Module):
    """1×1 expansion, ReLU6, depthwise k×k, ReLU6, 1×1 projection; + skip where shapes agree."""

    def __init__(self, channels: int, expansion: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = expansion * channels
        self.expand = _Convolution(channels, wide, 1) if expansion > 1 else None
        self.depthwise = _Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = _Convolution(wide, out, 1)
        self.skips = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] → [B, C', h/stride, w/stride]
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        y: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return x + y if self.skips else y


class _Convolution(nn.Conv2d):
    """Convolution with TensorFlow's 'same' zero padding, which the weights were trained with."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        before, after = (kernel - stride) // 2, (kernel - 1) // 2  # zeros round rows and columns
        even = before == after
        super().__init__(channels, out, kernel, stride, before if even else 0, groups=groups)
        self.margins = None if even else (before, after) * 2
        if self.weight.is_meta:  # only shapes are wanted
            return
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.margins) if self.margins else x)


def read_backbone(path: Path | str) -> dict[str, Tensor]:
    """Weights of an EfficientNet-Lite0 classifier file → state of a `MobileEncoder`.

    The file is a PyTorch state dictionary with the common names (`_conv_stem`, `_bn0`,
    `_blocks.<k>._expand_conv`, …). Batch normalization is folded in; the head is left out.
    Raises ModelError where the file cannot be read or is of another network architecture.
    """
    weights = read_state(path, "; docs/training.md says where to get a backbone")
    try:
        return _fold(weights)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"backbone {path} is not an EfficientNet-Lite0 state dictionary: {error} is missing"
        ) from error
    except (RuntimeError, ValueError) as error:  # shapes that do not fit
        raise ModelError(
            f"backbone {path} is not an EfficientNet-Lite0 state dictionary: {error}"
        ) from error


def _fold(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}

    def put(name: str, convolution: str, norm: str) -> None:
        scale = weights[f"{norm}.weight"] / torch.sqrt(
            weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON
        )
        state[f"{name}.weight"] = weights[f"{convolution}.weight"] * scale[:, None, None, None]
        state[f"{name}.bias"] = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale

    put("stem", "_conv_stem", "_bn0")
    for k, (name, _) in enumerate(MobileEncoder().blocks.named_children()):
        old = f"_blocks.{k}"
        if f"{old}._expand_conv.weight" in weights:
            put(f"blocks.{name}.expand", f"{old}._expand_conv", f"{old}._bn0")
        put(f"blocks.{name}.depthwise", f"{old}._depthwise_conv", f"{old}._bn1")
        put(f"blocks.{name}.project", f"{old}._project_conv", f"{old}._bn2")
    return state
