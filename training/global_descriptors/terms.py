# SPDX-License-Identifier: Apache-2.0
"""Loss terms of one step, from descriptors and geographic distances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from disam_ros.models.global_descriptors.network import Parts
from training.engine.networks import Terms
from training.global_descriptors import library_losses, losses
from training.global_descriptors.config import (
    PAIR_LOSSES,
    TUPLE_LOSSES,
    GlobalLossWeights,
    GlobalTrainConfig,
)


@dataclass(frozen=True)
class Geometry:
    """Layout and distances of a batch: T tuples of S images, B queries, B partners, others."""

    tuple_metres: Tensor  # distances within tuples [T, S, S] [m]
    pair_metres: Tensor  # distances from queries to partners [B, B] [m]
    depth: Tensor | None  # true depth [K, 1, h, w]; None where it is not trained

    @property
    def tuple_images(self) -> int:
        """T·S"""
        return self.tuple_metres.shape[0] * self.tuple_metres.shape[1]


def loss_terms(
    parts: Parts, geometry: Geometry, weights: GlobalLossWeights, config: GlobalTrainConfig
) -> Terms:
    """Computes the losses that are on, without their weights.

    With depth, the losses of descriptors act on the image's descriptor, on the depth's and on both
    together, added up; both together choose the hardest triplets. Where the depth's is
    hallucinated, the losses act on the descriptor of the true depth, too.
    """
    terms: Terms = {}
    chosen = None
    for space in _spaces(parts):
        if weights.on(TUPLE_LOSSES):
            shape = *geometry.tuple_metres.shape[:2], -1
            tuples = space[: geometry.tuple_images].view(shape)
            if weights.triplet and chosen is None:  # the first space is the fused one
                base = config.baselines
                count_far = min(base.negatives, config.tuples.far), config.tuples.near
                positives = min(base.positives, count_far[1])
                chosen = losses.hardest_triplets(tuples, count_far[1], positives, count_far[0])
            for name, value in _tuple_terms(tuples, geometry, weights, config, chosen):
                terms[name] = terms[name] + value if name in terms else value
        if weights.on(PAIR_LOSSES):
            value = _local(space, geometry, config)
            old = terms.get("local_triplet")
            terms["local_triplet"] = value if old is None else old + value
    if weights.depth and parts.depth_map is not None and geometry.depth is not None:
        terms["depth"] = losses.depth_loss(parts.depth_map, geometry.depth)
    if weights.hallucination and parts.imitated is not None and parts.taught is not None:
        terms["hallucination"] = losses.hallucination_loss(parts.imitated, parts.taught)
    return terms


def _spaces(parts: Parts) -> list[Tensor]:
    """Lists the fused descriptors, then those of the modalities."""
    spaces = (parts.fused, parts.image, parts.depth, parts.true_depth)
    return [parts.fused] if parts.depth is None else [x for x in spaces if x is not None]


def _tuple_terms(
    tuples: Tensor,
    geometry: Geometry,
    weights: GlobalLossWeights,
    config: GlobalTrainConfig,
    chosen: tuple[Tensor, Tensor, Tensor] | None,
) -> Iterator[tuple[str, Tensor]]:
    near, base, soft = config.tuples.near, config.baselines, config.soft
    if weights.soft_contrastive:
        influence = losses.Influence(soft.influence, soft.gamma, soft.tau)
        shared = tuples, geometry.tuple_metres, influence, soft.eta, soft.nu
        if soft.form == "sum":
            yield "soft_contrastive", losses.soft_sum(tuples, geometry.tuple_metres, influence)
        elif soft.form == "paper":
            yield "soft_contrastive", losses.soft_contrastive_paper(*shared)
        else:
            yield (
                "soft_contrastive",
                losses.soft_contrastive_released(*shared, soft.anchors, soft.mined),
            )
    if weights.multi_similarity:
        yield "multi_similarity", library_losses.multi_similarity(tuples, near)
    if weights.triplet and chosen is not None:
        yield "triplet", library_losses.triplet(tuples, chosen, base.margin)
    if weights.lazy_triplet:
        yield "lazy_triplet", losses.lazy_triplet(tuples, near, base.margin)
    for name in ("quadruplet", "lazy_quadruplet"):
        if getattr(weights, name):
            yield name, losses.quadruplet(tuples, near, lazy=name == "lazy_quadruplet")
    metres = geometry.tuple_metres
    if weights.log_ratio:
        yield "log_ratio", losses.log_ratio(tuples, metres, base.farthest)
    if weights.huber:
        yield "huber", losses.distance_regression(tuples, metres, near, config.tuples.near_radius)


def _local(space: Tensor, geometry: Geometry, config: GlobalTrainConfig) -> Tensor:
    local, begin, count = config.local, geometry.tuple_images, len(geometry.pair_metres)
    a, b = space[begin : begin + count], space[begin + count : begin + 2 * count]
    limits = local.scale, local.sigma, local.nearest, local.farthest or math.inf
    return losses.local_triplet(a, b, geometry.pair_metres, *limits)
