# SPDX-License-Identifier: Apache-2.0
"""Domain classification of an image by a small CNN, for conditions that leave several domains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from disam_ros.image import to_tensor

INPUT_SIZE = (48, 64)  # height, width in pixels
CHANNELS = (16, 24, 32, 48)  # each layer halves the image

Confusion = dict[str, dict[str, int]]  # true domain → predicted domain → number of images


class DomainClassifier(nn.Module):
    """Image [B, 3, 48, 64] in [−1, 1] → a logit per domain [B, D], in the order of `domains`."""

    def __init__(self, domains: Sequence[str]) -> None:
        super().__init__()
        self.domains = tuple(domains)
        layers: list[nn.Module] = []
        for channels, out in pairwise((3, *CHANNELS)):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1], len(self.domains))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits

    @torch.inference_mode()
    def classify(
        self, image: NDArray[np.uint8], among: Collection[str] | None = None
    ) -> tuple[str, float]:
        """The most probable domain of an image uint8 RGB [H, W, 3], and its probability.

        among: candidate domains; None: all. Raises ImageError.
        """
        tensor = to_tensor(image, INPUT_SIZE)[None].to(self.head.weight.device)
        allowed = [k for k, name in enumerate(self.domains) if among is None or name in among]
        probability, best = self(tensor)[0, allowed].softmax(0).max(0)
        return self.domains[allowed[int(best)]], float(probability)


def confusion(
    classifier: DomainClassifier, samples: Iterable[tuple[NDArray[np.uint8], str]]
) -> Confusion:
    """Confusion matrix of images uint8 RGB [H, W, 3] and their domains, without empty rows."""
    table = {domain: dict.fromkeys(classifier.domains, 0) for domain in classifier.domains}
    for image, domain in samples:
        table[domain][classifier.classify(image)[0]] += 1
    return {domain: row for domain, row in table.items() if any(row.values())}


def accuracy(table: Mapping[str, Mapping[str, int]]) -> float:
    """Share of images classified correctly."""
    right = sum(row.get(domain, 0) for domain, row in table.items())
    return right / sum(sum(row.values()) for row in table.values())
