# SPDX-License-Identifier: Apache-2.0
"""Which loss moves the networks: its share of the gradient, and a warning where it has none."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.engine.networks import Terms

log = logging.getLogger(__name__)

PATIENCE = 100  # steps without a gradient until a loss is warned of


def gradient_norms(terms: Terms, parameters: Sequence[nn.Parameter]) -> dict[str, float]:
    """Measures the norm of each unweighted term's gradient; the graph and `.grad` stay."""
    norms = {}
    for name, term in terms.items():
        slopes: Sequence[Tensor | None] = ()
        if term.requires_grad:
            slopes = torch.autograd.grad(
                term, list(parameters), retain_graph=True, allow_unused=True
            )
        norms[name] = _norm([slope for slope in slopes if slope is not None])
    return norms


def norm_of_gradients(parameters: Sequence[nn.Parameter]) -> float:
    """Measures the norm of the gradients that the parameters hold."""
    return _norm([p.grad for p in parameters if p.grad is not None])


def gradient_shares(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Divides λ·norm of each loss by their sum; all shares are 0 where there is no gradient."""
    weighted = {name: weights[name] * norm for name, norm in norms.items()}
    whole = sum(weighted.values())
    return {name: value / whole if whole > 0 else 0.0 for name, value in weighted.items()}


class GradientWatch:
    """Warns once of each loss that has had no gradient for PATIENCE steps."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._since: dict[str, int] = {}
        self._warned: set[str] = set()

    def check(self, step: int, norms: Mapping[str, float]) -> None:
        """Take in the gradients of a step. norms: those of the unweighted losses."""
        for name, norm in norms.items():
            if norm != 0.0:
                self._since.pop(name, None)
            elif step - self._since.setdefault(name, step) >= PATIENCE:
                if name not in self._warned:
                    log.warning(
                        "loss '%s' of stage '%s' has had no gradient for %d steps: it changes "
                        "nothing. Its margin is out of reach of the features (triplets.form: "
                        "relative), or turn it off",
                        name,
                        self._stage,
                        step - self._since[name],
                    )
                self._warned.add(name)


def _norm(slopes: Sequence[Tensor]) -> float:
    if not slopes:
        return 0.0
    return float(torch.stack([slope.float().norm() for slope in slopes]).norm())
