# SPDX-License-Identifier: Apache-2.0
"""Domain classification of an image by a small CNN, for conditions that leave several domains.

It is trained with torch (training/domain_classifier.py) and runs in numpy in about a millisecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from disam_ros.errors import ModelError
from disam_ros.image import network_input

INPUT_SIZE = (48, 64)  # height, width in pixels
CHANNELS = (16, 24, 32, 48)  # each layer halves the image
KERNEL = 3

Confusion = dict[str, dict[str, int]]  # true domain → predicted domain → number of images
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class DomainClassifier:
    """A small CNN with a logit per domain. Raises ModelError for weights of other shapes."""

    domains: Sequence[str]  # in the order of the logits
    weights: Weights  # of the shapes `weight_shapes`

    def __post_init__(self) -> None:
        expected = weight_shapes(len(self.domains))
        shapes = {name: array.shape for name, array in self.weights.items()}
        if shapes != expected:
            raise ModelError(
                f"weights of a domain classifier do not fit the network: expected {expected}, got "
                f"{shapes}"
            )
        for name, array in self.weights.items():
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ModelError(f"weights {name} of a domain classifier are no finite numbers")

    def require_domains(self, names: Sequence[str]) -> None:
        """Raise ModelError unless it is for the domains of a model, in their order."""
        if list(self.domains) != list(names):
            raise ModelError(
                f"the classifier is for the domains {', '.join(self.domains)}, expected the "
                f"model's in their order: {', '.join(names)}"
            )

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [B, D] of images [B, 3, 48, 64] in [−1, 1]."""
        x = images
        for k in range(len(CHANNELS)):
            name = f"features.{2 * k}"
            x = _convolution(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
            x = x.clip(0.0, None)
        pooled = x.mean((2, 3))
        return np.asarray(pooled @ self.weights["head.weight"].T + self.weights["head.bias"])

    def classify(
        self, image: NDArray[np.uint8], among: Collection[str] | None = None
    ) -> tuple[str, float]:
        """Find the most probable domain of an image, RGB [H, W, 3], and its probability.

        among: candidate domains; None: all. Raises ImageError.
        """
        allowed = [k for k, name in enumerate(self.domains) if among is None or name in among]
        logits = self.logits(network_input(image, INPUT_SIZE)[None])[0, allowed]
        shares = np.exp(logits - logits.max())
        best = int(shares.argmax())
        return self.domains[allowed[best]], float(shares[best] / shares.sum())


def weight_shapes(domains: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a classifier's weights by name, for a number of domains."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k, (channels, out) in enumerate(pairwise((3, *CHANNELS))):
        shapes[f"features.{2 * k}.weight"] = (out, channels, KERNEL, KERNEL)
        shapes[f"features.{2 * k}.bias"] = (out,)
    return {**shapes, "head.weight": (domains, CHANNELS[-1]), "head.bias": (domains,)}


def _convolution(
    x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """3×3 convolution at stride 2 with a margin of one zero: [B, C, h, w] → [B, C', h/2, w/2]."""
    wide = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = sliding_window_view(wide, (1, 1, KERNEL, KERNEL))[:, :, ::2, ::2, 0, 0]
    sums = np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3)))  # [B, h/2, w/2, C']
    return np.asarray((sums + bias).transpose(0, 3, 1, 2))


def confusion(
    classifier: DomainClassifier, samples: Iterable[tuple[NDArray[np.uint8], str]]
) -> Confusion:
    """Confusion matrix of images RGB [H, W, 3] and their domains, without empty rows."""
    table = {domain: dict.fromkeys(classifier.domains, 0) for domain in classifier.domains}
    for image, domain in samples:
        table[domain][classifier.classify(image)[0]] += 1
    return {domain: row for domain, row in table.items() if any(row.values())}


def accuracy(table: Mapping[str, Mapping[str, int]]) -> float:
    """Share of images classified correctly."""
    right = sum(row.get(domain, 0) for domain, row in table.items())
    return right / sum(sum(row.values()) for row in table.values())
