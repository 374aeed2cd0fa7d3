# SPDX-License-Identifier: Apache-2.0
"""The loss terms of true pairs, with the similarity that retrieval uses."""

from __future__ import annotations

import torch
from torch import Tensor

from disam_ros.config import DescriptorConfig
from disam_ros.models.similarity import Shifts, is_one_cell, shifted_similarities
from training.disam import losses
from training.disam.config import AlignedConfig, DisamStageConfig
from training.disam.matching import similarity_of
from training.disam.sampling import Aligned
from training.disam.scales import Scales
from training.engine.networks import Networks, Terms


def aligned_terms(
    networks: Networks,
    batch: Aligned,
    stage: DisamStageConfig,
    config: AlignedConfig,
    descriptor: DescriptorConfig,
    hard: bool,
    form: str,
    scales: Scales,
) -> Terms:
    """Losses on true pairs, by name, without their weights.

    form: of distances (losses.py); 'relative' divides them by the mean of negative pairs.
    """
    on = stage.losses.on()
    z_a, z_b = (
        networks.encoders[d](x) for d, x in zip(batch.domains, (batch.a, batch.b), strict=True)
    )
    terms: Terms = {}
    with torch.autocast(batch.a.device.type, enabled=False):
        a, b = z_a.float(), z_b.float()
        alpha = losses.RELATIVE_ALPHA if stage.adaptive else 0.0
        if set(on) & {"contrastive", "aligned_fcl", "aligned_triplet", "aligned_triplet_sam"}:
            similarities = similarity_of(stage.name, descriptor)(a, b)
        if "contrastive" in on:
            targets = None
            if batch.metres is not None:
                targets = losses.soft_targets(batch.metres, config.soft)
            terms["contrastive"] = losses.contrastive(
                similarities, batch.different, config.temperature, targets
            )
        if set(on) & {"aligned_fcl", "aligned_triplet"}:
            gaps = losses.unit_distances(similarities)
            if form == "relative":
                gaps = gaps / scales.update("pair_z", gaps[batch.different])
            if "aligned_fcl" in on:
                terms["aligned_fcl"] = gaps.diagonal().square().mean()
            if "aligned_triplet" in on:
                terms["aligned_triplet"] = losses.aligned_triplet(
                    gaps, batch.different, config.margin, alpha, hard
                )
        if set(on) & {"aligned_sam", "aligned_triplet_sam"}:
            terms |= _map_terms(a, b, batch.different, on, config.margin, alpha, hard, form, scales)
    if "distillation" in on:
        sides = zip(batch.domains, (batch.a, batch.b), (z_a, z_b), batch.domains[::-1], strict=True)
        for domain, image, teacher, other in sides:
            if networks.is_frozen(domain) and not networks.is_frozen(other):
                z = networks.encoders[other](image)
                terms["distillation"] = losses.distillation(z.float(), teacher.float())
    return terms


def _map_terms(
    a: Tensor,
    b: Tensor,
    different: Tensor,
    on: dict[str, float],
    margin: float,
    alpha: float,
    hard: bool,
    form: str,
    scales: Scales,
) -> Terms:
    """Eq. 19 and 23 on pairs of features a, b [B, C, h, w], each shifted onto the other.

    The negative of a_i is the most similar b_j of another place, or without `hard` the next one in
    the batch, and likewise for b_i.
    """
    terms: Terms = {}
    positive = losses.map_distance(*best_overlap(a, b), form)
    away, of = [], []
    for x, y, allowed in ((a, b, different), (b, a, different.T)):
        chosen = negatives_of(x, y, allowed, hard)
        possible = allowed.any(1)
        if possible.any():
            pair = best_overlap(x[possible], y[chosen[possible]])
            away.append(losses.map_distance(*pair, form))
            of.append(positive[possible])
    negative = torch.cat(away) if away else positive[:0]
    if form == "relative":
        unit = scales.update("pair_map", negative)
        positive, negative, of = positive / unit, negative / unit, [x / unit for x in of]
    if "aligned_sam" in on:
        terms["aligned_sam"] = positive.mean()
    if "aligned_triplet_sam" in on:
        paired = torch.cat(of) if of else positive[:0]
        hinge = losses.adaptive_triplet(paired, negative, margin, alpha)
        terms["aligned_triplet_sam"] = hinge if len(negative) else positive.sum() * 0.0
    return terms


@torch.no_grad()
def negatives_of(a: Tensor, b: Tensor, different: Tensor, hard: bool) -> Tensor:
    """Chooses the number of the negative among b for each of a [B, C, h, w], int [B].

    hard: the one of another place that is most similar at its best shift; else the next one.
    """
    count = len(a)
    if hard:
        scores = _by_shift(a, b)[0].amax(-1)
    else:
        numbers = torch.arange(count, device=a.device)
        scores = -((numbers[None] - numbers[:, None] - 1) % count).to(torch.float32)
    return scores.masked_fill(~different, float("-inf")).argmax(1)


def best_overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts features a [B, C, h, w] to where each is most similar to its b; both are 0 outside.

    A vehicle in another lane, or a camera of another pitch, sees the place shifted.
    """
    if is_one_cell(a):
        return a, b
    with torch.no_grad():
        similarities, shifts = _by_shift(a, b)
        best = similarities.diagonal().argmax(0)  # [B]
        inside = shifts.apply(a.new_ones(1, 1, *a.shape[-2:]))[0, best]  # [B, 1, h, w]
    rows, columns = shifts.rows, shifts.columns
    wide = torch.nn.functional.pad(a, (columns, columns, rows, rows))
    height, width = a.shape[-2:]
    cells = [shifts.cells[k] for k in best.tolist()]
    moved = [
        x[:, y + rows : y + rows + height, at + columns : at + columns + width]
        for x, (y, at) in zip(wide, cells, strict=True)
    ]
    return torch.stack(moved), b * inside


def _by_shift(a: Tensor, b: Tensor) -> tuple[Tensor, Shifts]:
    """Compares all features at every shift of a, similarities [A, B, S]."""
    shifts = Shifts.of_grid(*a.shape[-2:])
    return shifted_similarities(a, b, shifts), shifts
