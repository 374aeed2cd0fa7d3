# SPDX-License-Identifier: Apache-2.0
"""Baseline losses from pytorch-metric-learning, fed with geographic tuples."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from training.errors import TrainingError

ALPHA, BETA, BASE = 2.0, 50.0, 0.5  # α of near, β of far images and λ of multi-similarity


def triplet(tuples: Tensor, indices: tuple[Tensor, Tensor, Tensor], margin: float) -> Tensor:
    """[d(a, p) − min(d(a, n), d(p, n)) + margin]₊, mean over triplets (the swap of Piasco et al.).

    tuples: [T, K, D]. indices: triplets as `hardest_triplets` gives them.
    """
    losses, reducers = _library()
    loss = losses.TripletMarginLoss(margin, swap=True, reducer=reducers.MeanReducer())
    result: Tensor = loss(tuples.flatten(0, 1), indices_tuple=indices)
    return result


def multi_similarity(tuples: Tensor, near: int) -> Tensor:
    """log(1 + Σ exp(−α(S − λ)))/α over near and log(1 + Σ exp(β(S − λ)))/β over far images.

    Anchored on the first image, mean over tuples; S is the cosine. tuples: [T, 1 + near + N, D].
    """
    losses, reducers = _library()
    loss = losses.MultiSimilarityLoss(ALPHA, BETA, BASE, reducer=reducers.MeanReducer())
    count, others = tuples.shape[0], tuples.shape[1] - 1
    anchors = torch.arange(count, device=tuples.device)[:, None].expand(-1, others)
    numbers = torch.arange(count * others, device=tuples.device).view(count, others)
    parts = (
        x[:, cut].flatten() for cut in (slice(near), slice(near, None)) for x in (anchors, numbers)
    )
    result: Tensor = loss(
        tuples[:, 0], indices_tuple=tuple(parts), ref_emb=tuples[:, 1:].flatten(0, 1)
    )
    return result


def _library() -> tuple[ModuleType, ModuleType]:
    """The library's `losses` and `reducers`. Raises TrainingError where it is not installed."""
    try:
        from pytorch_metric_learning import losses, reducers
    except ImportError as error:
        raise TrainingError(
            "the losses triplet and multi_similarity need pytorch-metric-learning, which is not "
            "installed: pip install 'disam_ros[train]'"
        ) from error
    return losses, reducers
