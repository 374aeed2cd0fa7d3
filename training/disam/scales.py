# SPDX-License-Identifier: Apache-2.0
"""Units of relative distances: running means of the distances of negative pairs.

The paper's margins and weights are absolute numbers that fit the features of one network. In these
units a negative pair is at distance 1 on average, whatever the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from training.engine.networks import State

MEMORY = 100  # steps over which a mean runs
TINY = 1e-12


class Scales:
    """Running means by kind of distance: over all steps at first, then over the last MEMORY or so.

    average: averages a tensor over processes, so that all divide by the same number.
    """

    def __init__(self, average: Callable[[Tensor], Tensor] = lambda value: value) -> None:
        self._average = average
        self._means: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def update(self, kind: str, negatives: Tensor) -> Tensor:
        """Take in distances of negative pairs [N]. Returns the mean, positive, without gradient.

        Without distances it returns the mean so far, or 1.
        """
        now = negatives.detach()
        sums = self._average(torch.stack([now.sum(), now.new_tensor(float(now.numel()))]))
        old = self._means.get(kind)
        if sums[1] > 0:
            mean = sums[0] / sums[1]
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            old = mean if old is None else old.to(mean).lerp(mean, max(1.0 / count, 1.0 / MEMORY))
            self._means[kind] = old
        return now.new_tensor(1.0) if old is None else old.to(now).clamp_min(TINY)

    def state(self) -> State:
        """Returns mean and number of steps by kind, for a checkpoint."""
        return {
            f"scale/{kind}": torch.tensor([float(mean), self._counts[kind]], dtype=torch.float64)
            for kind, mean in self._means.items()
        }

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore a `state`."""
        scales = {k.removeprefix("scale/"): v for k, v in state.items() if k.startswith("scale/")}
        self._means = {k: v[0].to(device, torch.float32) for k, v in scales.items()}
        self._counts = {k: int(v[1]) for k, v in scales.items()}
