# SPDX-License-Identifier: Apache-2.0
"""Photometric augmentation: random gamma, contrast, noise and grey."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NOISE = 0.06  # standard deviation at strength 1, of the range [0, 1]


def photometric(image: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    """Changes gamma and contrast of an image [3, H, W] in [−1, 1], adds noise, may remove colour.

    strength: 0 changes nothing; at 1 gamma and contrast vary by a factor of e either way and every
    second image loses its colours.
    """
    if strength == 0:
        return image
    gamma, contrast = np.exp(random.uniform(-strength, strength, 2))
    grey, noise, seed = random.random(), NOISE * strength * random.random(), random.integers(2**31)
    x = ((image + 1) / 2).clamp(0, 1)
    if grey < strength / 2:
        x = x.mean(0, keepdim=True).expand_as(x)
    x = x**gamma
    x = (x - x.mean()) * contrast + x.mean()
    x = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(int(seed)))
    result: Tensor = (2 * x - 1).clamp(-1, 1)
    return result
