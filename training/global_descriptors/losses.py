# SPDX-License-Identifier: Apache-2.0
"""Losses of global descriptors as pure functions.

Descriptors are L2 normalised. A tuple is [T, 1 + P + N, D]: its anchor, P near and N far images.
Geographic distances are metres, infinite between places that share no map frame.
Sources: soft contrastive (Thoma et al., NeurIPS 2020), local triplet (Xia et al., RA-L 2021),
triplet on parts and depth (Piasco et al., ICRA 2019), quadruplet (Chen et al., CVPR 2017), lazy
quadruplet (Uy and Lee, CVPR 2018), log-ratio (Kim et al., CVPR 2019), hallucination (Hoffman et
al., CVPR 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

INFLUENCES = ("sigmoid", "linear", "tanh")
FORMS = ("released", "paper", "sum")
ANCHORS = ("all", "first")
PAIRS_EPSILON = 1e-3  # added to the number of pairs, as in the paper
SMALLEST = 1e-12  # of a squared distance: keeps the gradient of the norm finite
NEAREST = 1.0  # [m] that nearer images count as in the log-ratio loss
UNRELATED = 2.0  # squared distance of unrelated descriptors of norm 1
EASY = 0.1  # ε of multi-similarity mining: similarity by which a pair is clearly easy
MU = 1.0  # μ of Eq. 5 of soft contrastive learning; the released form has none
QUADRUPLET_MARGINS = 0.5, 0.2  # α, β of quadruplet and lazy quadruplet


@dataclass(frozen=True)
class Influence:
    """How much an image counts as near, g⁺, and as far, g⁻ = 1 − g⁺ (Definition 4.1).

    Eq. 4 prints the sigmoid's two signs the other way round, g⁺ would grow with the distance; here
    they follow the definition.
    """

    kind: str = "sigmoid"  # of INFLUENCES
    gamma: float = 0.8  # steepness of the sigmoid [1/m]
    tau: float = 15.0  # [m]: where the sigmoid is ½, the line 0 and 1 − tanh(d/τ) 0.24

    def near(self, metres: Tensor) -> Tensor:
        """g⁺ in [0, 1]: 1 at 0 m (the sigmoid: about), falling to 0; any shape."""
        return 1.0 - self.far(metres)

    def far(self, metres: Tensor) -> Tensor:
        """g⁻ in [0, 1], any shape."""
        if self.kind == "sigmoid":
            return torch.sigmoid(self.gamma * (metres - self.tau))
        if self.kind == "linear":
            return (metres / self.tau).clamp(0.0, 1.0)
        return torch.tanh(metres / self.tau)


def soft_contrastive_paper(
    tuples: Tensor, metres: Tensor, influence: Influence, eta: float, nu: float
) -> Tensor:
    """Eq. 5: log(1 + Σ exp(η s⁺ − μ))/η + log(1 + Σ exp(μ − ν s⁻))/ν, mean over tuples.

    s± = g±(d)·‖f_i − f_a‖ between the anchor, the first image, and every other one.
    tuples: [T, K, D]. metres: [T, K, K].
    """
    gaps = _distances(tuples[:, :1], tuples[:, 1:])[:, 0]  # [T, K − 1]
    d = metres[:, 0, 1:]
    near = _log_one_plus(eta * influence.near(d) * gaps - MU)
    far = _log_one_plus(MU - nu * influence.far(d) * gaps)
    return (near / eta + far / nu).mean()


def soft_contrastive_released(
    tuples: Tensor,
    metres: Tensor,
    influence: Influence,
    eta: float,
    nu: float,
    anchors: str = "all",
    mined: bool = False,
) -> Tensor:
    """The authors' own form: log(1 + Σ_j exp(−η(g⁺S − 1)))/η + log(1 + Σ_j exp(ν(g⁻S − 1)))/ν.

    S = max(0, f_i·f_j); every image of the tuple is an anchor, itself excluded; mean over anchors
    and tuples. anchors: "first" takes the tuple's anchor alone, as the other losses do. A far image
    adds the constant e^η to the first sum, and so damps it without a gradient. mined: pairs that
    are clearly easy are left out, as the authors train (`_hard_pairs`).
    tuples: [T, K, D]. metres: [T, K, K].
    """
    similar = (tuples @ tuples.mT).clamp_min(0.0)
    others = ~torch.eye(tuples.shape[1], dtype=torch.bool, device=tuples.device)
    close, distant = influence.near(metres), influence.far(metres)
    kept = (others, others)
    if mined:
        kept = _hard_pairs(similar, close * others, distant * others)
        kept = (kept[0] & others, kept[1] & others)
    near = (-eta * (close * similar - 1.0)).masked_fill(~kept[0], -torch.inf)
    far = (nu * (distant * similar - 1.0)).masked_fill(~kept[1], -torch.inf)
    if anchors == "first":
        near, far = near[:, :1], far[:, :1]
    return (_log_one_plus(near) / eta + _log_one_plus(far) / nu).mean()


def _hard_pairs(similar: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-similarity mining with soft labels: each anchor's near and far pairs that count.

    A near pair counts if g⁺S is less than the largest g⁻S plus EASY, a far one if g⁻S is more than
    the smallest of g⁺(S − max g⁺S) + max g⁺S less EASY. similar, near, far: [T, K, K]; bool
    likewise.
    """
    with torch.no_grad():
        positive, negative = near * similar, far * similar
        most = positive.amax(-1, keepdim=True)
        least = (near * (similar - most)).amin(-1, keepdim=True) + most
        return positive < negative.amax(-1, keepdim=True) + EASY, negative > least - EASY


def soft_sum(tuples: Tensor, metres: Tensor, influence: Influence) -> Tensor:
    """Σ (g⁺(d) − g⁻(d))·‖f_i − f_a‖, mean over images and tuples.

    This is Eq. 5 without its logarithms of sums: no image counts more because it is hard.
    tuples: [T, K, D]. metres: [T, K, K].
    """
    gaps = _distances(tuples[:, :1], tuples[:, 1:])[:, 0]
    d = metres[:, 0, 1:]
    return ((influence.near(d) - influence.far(d)) * gaps).mean()


def log_ratio(tuples: Tensor, metres: Tensor, farthest: float) -> Tensor:
    """Mean over pairs i < j of (log ‖f_i − f_a‖²/‖f_j − f_a‖² − log d_i²/d_j²)², and over tuples.

    Distances of descriptors in the ratios of those in metres, which count as NEAREST at least and
    `farthest` at most. tuples: [T, K, D], K ≥ 3. metres: [T, K, K].
    """
    gaps = _distances(tuples[:, :1], tuples[:, 1:])[:, 0]
    d = metres[:, 0, 1:].clamp(NEAREST, farthest)
    error = 2.0 * (gaps.log() - d.log())  # [T, K − 1]; what is equal in i and j drops out
    i, j = torch.triu_indices(error.shape[1], error.shape[1], 1)
    return (error[:, i] - error[:, j]).square().mean()


def distance_regression(tuples: Tensor, metres: Tensor, near: int, radius: float) -> Tensor:
    """Huber's loss, δ 1, of ‖f_i − f_a‖²/2 against d²/`radius`² of the `near` near images, mean
    over these and tuples: the square is 2 between unrelated descriptors.

    tuples: [T, 1 + near + N, D]. metres: [T, 1 + near + N, 1 + near + N].
    """
    gaps = _distances(tuples[:, :1], tuples[:, 1 : 1 + near])[:, 0].square() / UNRELATED
    return functional.huber_loss(gaps, (metres[:, 0, 1 : 1 + near] / radius).square())


def lazy_triplet(tuples: Tensor, near: int, margin: float) -> Tensor:
    """[margin + δ⁺ − δ⁻]₊ of the nearest near and the nearest far image, mean over tuples.

    tuples: [T, 1 + near + N, D].
    """
    gaps = _distances(tuples[:, :1], tuples)[:, 0]
    return torch.relu(margin + gaps[:, 1 : 1 + near].amin(1) - gaps[:, 1 + near :].amin(1)).mean()


def quadruplet(tuples: Tensor, near: int, lazy: bool) -> Tensor:
    """[α + δ⁺ − δ⁻_j]₊ + [β + δ⁺ − δ*_k]₊, mean over j, k and tuples; lazy: their maxima.

    δ⁺ is the distance from the anchor to the nearest of the `near` near images, δ⁻ to the far ones
    without the last, δ* from these to the last, which lies far from all of them.
    tuples: [T, 1 + near + N, D], N ≥ 2.
    """
    gaps = _distances(tuples, tuples)
    positive = gaps[:, 0, 1 : 1 + near].amin(1, keepdim=True)
    away = torch.relu(QUADRUPLET_MARGINS[0] + positive - gaps[:, 0, 1 + near : -1])
    other = torch.relu(QUADRUPLET_MARGINS[1] + positive - gaps[:, -1, 1 + near : -1])
    return (away.amax(1) + other.amax(1) if lazy else away.mean(1) + other.mean(1)).mean()


def hallucination_loss(imitated: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference between imitated and true features, over the true ones' mean square.

    imitated: features of the image [B, C, h, w]. truth: features of its depth map, detached.
    """
    truth = truth.detach()
    return functional.mse_loss(imitated, truth) / truth.square().mean().clamp_min(SMALLEST)


def hardest_triplets(
    tuples: Tensor, near: int, positives: int, negatives: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Chooses triplets: numbers (anchor, near, far) among the flattened images [T·K].

    Each tuple gives its `positives` farthest near images with its `negatives` nearest far ones, in
    the space of descriptors; 0: all of them. tuples: [T, 1 + near + N, D].
    """
    count, size = tuples.shape[:2]
    with torch.no_grad():
        gaps = _distances(tuples[:, :1], tuples)[:, 0]
        p = gaps[:, 1 : 1 + near].topk(positives or near, 1).indices + 1
        n = gaps[:, 1 + near :].topk(negatives or size - 1 - near, 1, largest=False).indices
        start = size * torch.arange(count, device=tuples.device)[:, None]
        p, n = p + start, n + start + 1 + near
        shape = (count, p.shape[1], n.shape[1])
        grids = (start[:, :, None], p[:, :, None], n[:, None])
        anchors, positive, negative = (grid.expand(shape).flatten() for grid in grids)
        return anchors, positive, negative


def local_triplet(
    a: Tensor,
    b: Tensor,
    metres: Tensor,
    scale: float,
    sigma: float,
    nearest: float,
    farthest: float,
) -> Tensor:
    """Σ w(d)·log(1 + exp(α(d_pos − d_neg))) / (pairs + 0.001), half from a to b, half back.

    d = 2 − 2·aᵀb; w(d) = 1 − exp(−d²/2σ²) of the geographic distance. a[k] and b[k] show one
    place; a negative lies more than `nearest` and at most `farthest` metres away.
    a, b: descriptors [B, D]. metres: [B, B], from a_i to b_j. scale: α. sigma: σ [m].
    """
    gaps = 2.0 - 2.0 * a @ b.T
    positive = gaps.diagonal()[:, None]
    mask = (metres > nearest) & (metres <= farthest)
    mask &= ~torch.eye(len(a), dtype=torch.bool, device=a.device)
    weight = mask * (1.0 - torch.exp(-metres.square() / (2.0 * sigma**2)))
    total = a.new_zeros(())
    for rows, weights in ((gaps, weight), (gaps.T, weight.T)):
        total = total + (weights * functional.softplus(scale * (positive - rows))).sum()
    return 0.5 * total / (mask.sum().to(total.dtype) + PAIRS_EPSILON)


def depth_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """L1 between depths as shares of the limit, over pixels whose depth is known.

    predicted: [B, 1, h, w] in (0, 1). truth: the same shape, nan where unknown; what lies beyond
    the limit counts as 1. Zero, with a gradient of zero, where nothing is known.
    """
    valid = truth.isfinite() | truth.isposinf()
    gaps = (predicted - truth.nan_to_num(0.0, posinf=1.0).clamp(0.0, 1.0)).abs()
    return (gaps * valid).sum() / valid.sum().clamp_min(1)


def _log_one_plus(exponents: Tensor) -> Tensor:
    """log(1 + Σ exp(x)) over the last dimension, without overflow."""
    zero = torch.zeros_like(exponents[..., :1])
    return torch.logsumexp(torch.cat([zero, exponents], -1), -1)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [..., A, B] of rows; the gradient is finite where two rows are equal."""
    return (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1).clamp_min(SMALLEST).sqrt()
