# SPDX-License-Identifier: Apache-2.0
"""The losses of DISAM as pure functions; equation numbers are those of the paper.

Features z are [B, C, h, w], activation maps L are [B, h, w], distances d are [B]. Every loss is a
mean over the batch, so that the mean over processes of its gradient is the gradient over all their
samples.

`form` names which definition of a distance is meant:
  paper     the norm ‖a − b‖₂, gradients through both sides
  released  the mean squared error of the public implementation, for which its λ, m and α were
            chosen; the side it calls the target is detached
  relative  as released, but of channel-normalized features, and in units of the running mean of the
            distances of negative pairs (scales.py): the same for features of any scale
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from disam_ros.models.similarity import activation_map, channel_normalize, coarse_similarity

FORMS = ("released", "paper", "relative")
RELATIVE_ALPHA = 2.0  # α of triplets whose distances are relative
GAN_SCALE_WEIGHTS = (1.0, 2.0, 3.0, 5.0)  # shallow to deep prediction head of each branch
GAN_BRANCHES = 2  # averaged
GAN_NORMALIZER = GAN_BRANCHES * 4 * sum(GAN_SCALE_WEIGHTS)  # 2·4·11

Measure = Callable[[Tensor, Tensor], Tensor]  # [B, ...], [B, ...] → distances [B]


def gan_loss(predictions: Sequence[Tensor], target: float) -> Tensor:
    """Least-squares GAN over all scales of both branches of a discriminator.

    At each scale the mean of both branches, weighted and divided by 4·11, as in the public
    implementation. predictions: maps [B, 1, h, w], each branch's four heads one after the other.
    target: 1 for "real", 0 for "translated".
    """
    terms = [
        GAN_SCALE_WEIGHTS[k % len(GAN_SCALE_WEIGHTS)] * (_wide(p) - target).square().mean()
        for k, p in enumerate(predictions)
    ]
    return torch.stack(terms).sum() / GAN_NORMALIZER


def cycle_loss(reconstructed: Tensor, image: Tensor) -> Tensor:
    """L1 between an image and its translation there and back. Both [B, 3, H, W]."""
    return functional.l1_loss(_wide(reconstructed), _wide(image))


def comparable(z: Tensor, form: str) -> Tensor:
    """Prepares features [B, C, h, w] for distances: 'relative' divides each channel by its norm.

    The result has the activation maps of z: ω_k z_k does not depend on a channel's scale.
    """
    return channel_normalize(z) if form == "relative" else z


def distance(a: Tensor, b: Tensor, form: str) -> Tensor:
    """Distance per sample: 'paper' ‖a − b‖₂, else the mean squared error. [B, ...] → [B]."""
    difference = (a - b).flatten(1)
    if form == "paper":
        result: Tensor = difference.norm(dim=1)
        return result
    return difference.square().mean(1)


def feature_consistency(z_again: Tensor, z: Tensor, form: str) -> Tensor:
    """Eq. 12: the translation, encoded again (z'), should have the features z of its origin.

    Returns distances [B]; their mean is the loss. All forms but 'paper' detach z.
    """
    return distance(z_again, z if form == "paper" else z.detach(), form)


def feature_cosine_loss(z_again: Tensor, z: Tensor) -> Tensor:
    """The cosine term of the fine model's FCL: 1 − Y(z', z) with Y of Eq. 16."""
    return (1.0 - coarse_similarity(z_again, z)).mean()


def activation_pair(z: Tensor, z_again: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 17, 18: L_i of the image and L_i→j of its re-encoded translation, [B, h, w] each."""
    return activation_map(z, z_again), activation_map(z_again, z)


def activation_consistency(real: Tensor, translated: Tensor, form: str) -> Tensor:
    """Eq. 19, the SAM loss: both maps should be equal.

    real, translated: L_i and L_i→j [B, h, w]. Returns distances [B]; their mean is the loss.
    All forms but 'paper' detach the translated side.
    """
    return distance(real, translated if form == "paper" else translated.detach(), form)


def map_distance(a: Tensor, b: Tensor, form: str) -> Tensor:
    """Distance of the activation maps of a pair, each taken with respect to the other image.

    a, b: features [B, C, h, w]. Returns [B]. This is d_p of Eq. 23 for an image and its
    translation, and d_n for a negative pair.
    """
    return distance(*activation_pair(a, b), form)


def adaptive_triplet(positive: Tensor, negative: Tensor, margin: float, alpha: float) -> Tensor:
    """Eq. 22 (features) and 23 (maps): max(0, 1 − d_n / (d_p + m·exp(−α·d_p))).

    The margin m·exp(−α·d_p) grows to m as the positive distance d_p shrinks to 0.
    positive, negative: distances d_p, d_n [B]. Returns the mean.
    """
    adaptive_margin = margin * torch.exp(-alpha * positive)
    return torch.relu(1.0 - negative / (positive + adaptive_margin)).mean()


def hardest_negative(anchor: Tensor, group: Tensor, measure: Measure) -> Tensor:
    """Eq. 20 (features) and 21 (maps): for each anchor the nearest of a group of negatives.

    anchor: [B, ...]. group: [K, ...], needs no gradient. measure: the distance that decides.
    Returns rows of the group [B, ...].
    """
    shape = len(group), *anchor.shape  # [K, B, ...]
    with torch.no_grad():  # all pairs at once: a GPU takes as long for one
        anchors, negatives = anchor.expand(shape), group[:, None].expand(shape)
        gaps = measure(anchors.flatten(0, 1), negatives.flatten(0, 1)).unflatten(0, shape[:2])
        return group[gaps.argmin(0)]


def contrastive(similarities: Tensor, different: Tensor, temperature: float) -> Tensor:
    """InfoNCE over a batch of true pairs (not in the paper): which b belongs to which a?

    Images a_k and b_k show one place. similarities: of all a_i and b_j [B, B]. different: bool
    [B, B], whether a_i and b_j surely show two places; all others but the pair are left out.
    """
    logits = similarities / temperature
    pair = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    left_out = ~(different | pair)
    sides = (logits, left_out), (logits.T, left_out.T)
    terms = [
        -rows.masked_fill(masked, float("-inf")).log_softmax(1).diagonal().mean()
        for rows, masked in sides
    ]
    return torch.stack(terms).mean()


def distillation(z: Tensor, teacher: Tensor) -> Tensor:
    """Learning without forgetting (Li & Hoiem, ECCV 2016): 1 − cosine of the features at each cell.

    z, teacher: features [B, C, h, w] of images of the teacher's domain; the teacher is detached.
    """
    return (1.0 - functional.cosine_similarity(z, teacher.detach(), dim=1)).mean()


def _wide(x: Tensor) -> Tensor:
    """Widens to float32 at least, so that sums under autocast are exact enough."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
