# SPDX-License-Identifier: Apache-2.0
"""DISAM's similarity metrics and activation maps (Hu et al., IEEE/CAA JAS 2021, Eq. 16–18).

Latent features z are [..., C, h, w]; leading dimensions broadcast, so single images [C, h, w] and
batches [B, C, h, w] use the same functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-8


def coarse_similarity(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Mean over channels of the spatial cosine, Y of Eq. 16.

    z_a, z_b: [..., C, h, w]. Returns [...] in [−1, 1]. The cosine of a zero channel is 0. With one
    cell only signs count: use `fine_similarity` for a global descriptor.
    """
    return (channel_normalize(z_a) * channel_normalize(z_b)).sum((-3, -2, -1)) / z_a.shape[-3]


def fine_similarity(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Cosine of the flattened features. z_a, z_b: [..., C, h, w]. Returns [...] in [−1, 1]."""
    return (normalize(z_a) * normalize(z_b)).sum((-3, -2, -1))


def shifted_similarity(z_a: Tensor, z_b: Tensor, columns: int, rows: int) -> Tensor:
    """Maximum fine similarity over shifts of z_a by up to ± `columns` and ± `rows` cells.

    Each shift compares the overlapping cells, for views from another lane (not in the paper).
    z_a, z_b: [..., C, h, w], h > rows, w > columns. Returns [...] in [−1, 1].
    """
    found = [
        fine_similarity(
            _overlap(_overlap(z_a, dx, -1), dy, -2), _overlap(_overlap(z_b, -dx, -1), -dy, -2)
        )
        for dy in range(-rows, rows + 1)
        for dx in range(-columns, columns + 1)
    ]
    return torch.stack(found).amax(0)


def _overlap(z: Tensor, shift: int, axis: int) -> Tensor:
    """Overlapping cells after a shift along an axis: the end, or for shift < 0 the beginning."""
    return z.narrow(axis, max(shift, 0), z.shape[axis] - abs(shift))


def channel_normalize(z: Tensor) -> Tensor:
    """Divide each channel by its spatial norm. z: [..., C, h, w] → same shape.

    Flattened and divided by √C, an inner product of two results is Eq. 16.
    """
    return z / _norms(z.flatten(-2))[..., None, None]


def normalize(z: Tensor) -> Tensor:
    """Divide by the norm of all features. z: [..., C, h, w] → same shape."""
    return z / _norms(z.flatten(-3))[..., None, None, None]


def _norms(x: Tensor) -> Tensor:
    """Norms along the last axis, at least EPSILON. x: [..., n] → [...]."""
    norms: Tensor = x.norm(dim=-1)
    return norms.clamp_min(EPSILON)


def sam_weights(z: Tensor, z_other: Tensor) -> Tensor:
    """Channel weights ω_k = Σ_pq ∂Y/∂z_k^pq of Eq. 17 in closed form: no second backward pass.

    ω_k = ( S'_k / (N_k N'_k) − c_k S_k / N_k² ) / C with sums S, norms N and channel cosines c.
    z, z_other: [..., C, h, w]. Returns [..., C], the gradient with respect to `z`.
    """
    a, b = z.flatten(-2), z_other.flatten(-2)
    norm_a, norm_b = _norms(a), _norms(b)
    cosine = (a * b).sum(-1) / (norm_a * norm_b)
    gradient = b.sum(-1) / (norm_a * norm_b) - cosine * a.sum(-1) / norm_a**2
    return gradient / z.shape[-3]


def activation_map(z_query: Tensor, z_reference: Tensor) -> Tensor:
    """Similarity activation map of the query, Eq. 18: its regions that resemble the reference.

    z_query, z_reference: [..., C, h, w]. Returns ReLU(Σ_k ω_k z_k) [..., h, w], ≥ 0.
    """
    weights = sam_weights(z_query, z_reference)
    return torch.relu((weights[..., None, None] * z_query).sum(-3))
