# SPDX-License-Identifier: Apache-2.0
"""Networks of the layers of public descriptors, small and with random weights."""

from __future__ import annotations

from torch import Tensor, cat, nn, randn
from torch.nn import functional


class VisionTransformer(nn.Module):
    """ViT of patches of 14: images [B, 3, 14 h, 14 w] → patch tokens [B, dimension, h, w]."""

    def __init__(self, size: int = 224, dimension: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dimension, 14, stride=14)
        self.token = nn.Parameter(randn(1, 1, dimension) * 0.02)
        self.positions = nn.Parameter(randn(1, (size // 14) ** 2 + 1, dimension) * 0.02)
        self.blocks = nn.ModuleList(_Block(dimension, dimension // 64) for _ in range(depth))
        self.norm = nn.LayerNorm(dimension)

    def forward(self, images: Tensor) -> Tensor:
        cells = self.patches(images)
        tokens = cells.flatten(2).transpose(1, 2)
        x = cat((self.token.expand(tokens.shape[0], -1, -1), tokens), 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 1:].transpose(1, 2).reshape(cells.shape)


class _Block(nn.Module):
    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in range(2))
        self.qkv, self.out = nn.Linear(dimension, 3 * dimension), nn.Linear(dimension, dimension)
        self.mlp = nn.Sequential(
            nn.Linear(dimension, 4 * dimension), nn.GELU(), nn.Linear(4 * dimension, dimension)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, tokens, dimension]
        parts = self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = functional.scaled_dot_product_attention(*parts.unbind(0))
        x = x + self.out(attention.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class ResNetGem(nn.Module):
    """Bottlenecks, GeM, linear: images [B, 3, H, W] → descriptors of norm 1 [B, dimension]."""

    def __init__(self, dimension: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_convolution(3, 16, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 16
        for width, count, stride in ((8, 2, 1), (16, 2, 2)):
            for k in range(count):
                layers.append(_Bottleneck(channels, width, 1 if k else stride))
                channels = 4 * width
        self.backbone = nn.Sequential(*layers)
        self.project = nn.Linear(channels, dimension)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images).clamp_min(1e-6)
        pooled = features.pow(3).mean((2, 3)).pow(1 / 3)
        return functional.normalize(self.project(pooled), dim=1)


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        first, second = _convolution(channels, width, 1), _convolution(width, width, 3, stride)
        self.branch = nn.Sequential(
            *first, nn.ReLU(), *second, nn.ReLU(), *_convolution(width, 4 * width, 1)
        )
        same = channels == 4 * width and stride == 1
        self.skip = (
            nn.Identity() if same else nn.Sequential(*_convolution(channels, 4 * width, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.branch(x) + self.skip(x))


def _convolution(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out),
    ]
