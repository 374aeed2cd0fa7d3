# SPDX-License-Identifier: Apache-2.0
"""ALIKED's network (Zhao et al., ALIKED: A Lighter Keypoint and Descriptor Extraction Network via
Deformable Transformation, IEEE Trans. Instrumentation and Measurement 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.features.learned.weights import load_weights

EXTRA, FILE = "lightglue", "aliked-n16.pth"
STRIDE = 32  # pixels that an image is padded to multiples of
RADIUS = 2  # pixels, of non-maximum suppression and sub-pixel refinement
TEMPERATURE = 0.1  # of the sub-pixel refinement's softmax
MIN_SCORE = 0.01  # of a keypoint
EPSILON = 1e-5  # of the normalizations


class Aliked(nn.Module):
    """Features of four scales, the upper two by deformable convolutions; a score of each pixel; and
    a descriptor gathered at learned offsets from a keypoint. state: the authors' weights."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(state, f"block{number}", deformable=number > 2) for number in (1, 2, 3, 4)
        )
        self.state = {  # of layers without bias or with fixed roles
            name: values
            for name, values in state.items()
            if name.startswith(("conv", "score_head", "desc_head"))
        }

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """RGB in 0…1 [1, 3, H, W] → unit features [1, 128, H, W] and scores [1, 1, H, W]."""
        height, width = image.shape[2:]
        below, right = -height % STRIDE, -width % STRIDE
        top, left = below // 2, right // 2
        edges = (left, right - left, top, below - top)
        features = functional.pad(image, edges, mode="replicate")
        levels = []
        for number, (block, pool) in enumerate(zip(self.blocks, (1, 2, 4, 4), strict=True), 1):
            if pool > 1:
                features = functional.avg_pool2d(features, pool)
            features = block(features)
            level = functional.selu(functional.conv2d(features, self.state[f"conv{number}.weight"]))
            levels.append(level)
        size = levels[0].shape[2:]
        rest = [_enlarged(level, size) for level in levels[1:]]
        whole = torch.cat([levels[0], *rest], 1)
        scores = whole
        for layer in (0, 2, 4, 6):
            scores = functional.selu(scores) if layer else scores
            weight = self.state[f"score_head.{layer}.weight"]
            scores = functional.conv2d(scores, weight, padding=weight.shape[2] // 2)
        inside = slice(top, top + height), slice(left, left + width)
        unit = functional.normalize(whole[:, :, inside[0], inside[1]], dim=1)
        return unit, torch.sigmoid(scores[:, :, inside[0], inside[1]])

    def describe(self, features: Tensor, pixels: Tensor) -> Tensor:
        """Unit descriptors [K, 128] of keypoints at pixels [K, 2] (x, y) of features [1, 128, H,
        W]: a sum over positions, at offsets that are read off the 3 × 3 features around each."""
        height, width = features.shape[2:]
        limit = max(height, width) / 4.0
        corner_x = (pixels[:, 0].long() - 1).clamp(0, width - 4)
        corner_y = (pixels[:, 1].long() - 1).clamp(0, height - 4)
        step = torch.arange(3, device=pixels.device)
        y, x = corner_y[:, None, None] + step[:, None], corner_x[:, None, None] + step
        patches = features[0, :, y, x].transpose(0, 1)  # [K, 128, 3, 3]
        offsets = self._head(patches, "offset_conv.0")
        offsets = self._head(functional.selu(offsets), "offset_conv.2")
        moves = offsets.clamp(-limit, limit).reshape(len(pixels), 2, -1).transpose(1, 2)
        sampled = _sampled(features, pixels[:, None] + moves)[0]  # [128, K, positions]
        weights = self.state["desc_head.sf_conv.weight"][:, :, 0, 0]
        gathered = functional.selu(torch.einsum("dc,ckp->dkp", weights, sampled))
        descriptors = torch.einsum("ckp,pcd->kd", gathered, self.state["desc_head.agg_weights"])
        return functional.normalize(descriptors, dim=1)

    def _head(self, x: Tensor, name: str) -> Tensor:
        name = f"desc_head.{name}"
        return functional.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


def load_aliked(device: str = "cpu") -> Aliked:
    """The network with the weights of the installed package. Raises ConfigError, ModelError."""
    return Aliked(load_weights(EXTRA, FILE, device)).eval()


def keypoints(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The strongest maxima of scores [1, 1, H, W], refined by a soft argmax: pixels [K, 2] (x, y)
    and scores [K], falling."""
    peaks = _maxima(scores)[0, 0]
    inside = torch.zeros_like(peaks)
    inside[RADIUS:-RADIUS, RADIUS:-RADIUS] = peaks[RADIUS:-RADIUS, RADIUS:-RADIUS]
    values, chosen = inside.flatten().topk(min(count, inside.numel()))
    chosen = chosen[values > MIN_SCORE]
    y, x = chosen // inside.shape[1], chosen % inside.shape[1]
    step = torch.arange(-RADIUS, RADIUS + 1, device=scores.device)
    rows, columns = y[:, None, None] + step[:, None], x[:, None, None] + step
    around = scores[0, 0, rows, columns] / TEMPERATURE
    weights = around.flatten(1).softmax(1).reshape(around.shape)
    shift = torch.stack([(weights * step).sum((1, 2)), (weights * step[:, None]).sum((1, 2))], 1)
    pixels = torch.stack([x, y], 1) + shift
    refined = _sampled(scores, pixels[:, None])[0, 0, :, 0]
    order = refined.argsort(descending=True, stable=True)
    return pixels[order], refined[order]


def _maxima(scores: Tensor) -> Tensor:
    """Scores, 0 but at the maxima within RADIUS; in turn, maxima among what no maximum covers."""

    def largest(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2 * RADIUS + 1, 1, RADIUS)

    peaks = scores == largest(scores)
    for _ in range(2):
        covered = largest(peaks.float()) > 0
        rest = scores.masked_fill(covered, 0.0)
        peaks = peaks | ((rest == largest(rest)) & ~covered)
    return scores * peaks


class _Block(nn.Module):
    """Two 3 × 3 convolutions with normalization and SELU; from the second block on, residual."""

    def __init__(self, state: dict[str, Tensor], name: str, deformable: bool) -> None:
        super().__init__()
        kind = _Deformable if deformable else _Convolution
        self.first, self.second = kind(state, name, 1), kind(state, name, 2)
        self.shortcut = None
        if f"{name}.downsample.weight" in state:
            self.shortcut = state[f"{name}.downsample.weight"], state[f"{name}.downsample.bias"]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(functional.selu(self.first(x)))
        if self.shortcut is not None:
            out = out + functional.conv2d(x, self.shortcut[0], self.shortcut[1])
        return functional.selu(out)


class _Convolution(nn.Module):
    """A 3 × 3 convolution with the batch normalization after it folded in."""

    def __init__(self, state: dict[str, Tensor], block: str, number: int) -> None:
        super().__init__()
        name = f"{block}.conv{number}"
        weight = state.get(f"{name}.weight", state.get(f"{name}.regular_conv.weight"))
        assert weight is not None
        norm = f"{block}.bn{number}"
        scale = state[f"{norm}.weight"] * (state[f"{norm}.running_var"] + EPSILON).rsqrt()
        self.weight = weight * scale[:, None, None, None]
        self.bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, padding=1)


class _Deformable(_Convolution):
    """A deformable convolution (Dai et al., ICCV 2017): each tap is sampled at its own offset."""

    def __init__(self, state: dict[str, Tensor], block: str, number: int) -> None:
        super().__init__(state, block, number)
        name = f"{block}.conv{number}.offset_conv"
        self.offsets = state[f"{name}.weight"], state[f"{name}.bias"]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        limit = max(height, width) / 4.0
        moves = functional.conv2d(x, self.offsets[0], self.offsets[1], padding=1)[0]
        moves = moves.clamp(-limit, limit).reshape(3, 3, 2, height, width)  # y before x
        y = torch.arange(float(height), device=x.device)[:, None]
        x0 = torch.arange(float(width), device=x.device)
        out = self.bias[:, None, None]
        for row in range(3):
            for column in range(3):
                where = torch.stack(
                    [x0 + column - 1 + moves[row, column, 1], y + row - 1 + moves[row, column, 0]],
                    -1,
                )
                tap = _sampled(x, where)[0]
                out = out + torch.einsum("dc,chw->dhw", self.weight[:, :, row, column], tap)
        return out[None]


def _sampled(features: Tensor, where: Tensor) -> Tensor:
    """Values [1, C, a, b] of features [1, C, H, W] at pixels [a, b, 2] (x, y): bilinear, 0
    outside."""
    size = where.new_tensor([features.shape[3] - 1.0, features.shape[2] - 1.0])
    grid = (2.0 * where / size - 1.0)[None]
    return functional.grid_sample(features, grid, align_corners=True, padding_mode="zeros")


def _enlarged(features: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(features, size, mode="bilinear", align_corners=True)
