# SPDX-License-Identifier: Apache-2.0
"""The fine stage's training step as the public implementation lays it out, for comparison.

Batch 1, float32; activation maps by second-order automatic differentiation; the further negatives
encoded anew in every step, one after the other; discriminators keep their gradients while the
generators are trained. Written from the description of the method, negatives in both directions
as in the paper. Its terms are those of training.steps in form 'released' (Hu et al., Eq. 12,
16–23): features z are [1, C, h, w], activation maps [1, h, w], losses scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.disam.networks import TranslationPool
from training.disam.sampling import Unpaired
from training.engine.networks import Networks

SCALE_WEIGHTS = (1.0, 2.0, 3.0, 5.0)  # of a discriminator branch's four heads
MARGIN_FCL, ALPHA_FCL = 5.0, 2.0  # m_f, α_f of Eq. 22
MARGIN_SAM, ALPHA_SAM = 0.1, 1000.0  # m_s, α_s of Eq. 23
Terms = dict[str, Tensor]


@dataclass
class Way:
    """An image [1, 3, H, W] of one domain, translated to another and back."""

    image: Tensor
    z: Tensor
    fake: Tensor
    z_again: Tensor  # features of the translation
    rebuilt: Tensor
    map: Tensor  # L_i
    map_again: Tensor  # L_i→j


class NaiveTraining:
    """Networks and optimizers; `weights` holds λ of every term."""

    def __init__(self, networks: Networks, weights: Mapping[str, float], pool: int = 50) -> None:
        self.networks, self.weights = networks, weights
        self.generators = torch.optim.Adam(networks.generators(), lr=2e-4, betas=(0.5, 0.999))
        self.critics = torch.optim.Adam(networks.critics(), lr=2e-4, betas=(0.5, 0.999))
        self.pool, self.random = TranslationPool(pool), np.random.default_rng(0)

    def step(self, batch: Unpaired) -> None:
        """Update the networks of the batch's two domains."""
        terms, fakes = generator_terms(self.networks, batch)
        self.generators.zero_grad()
        sum(self.weights[name] * term for name, term in terms.items()).backward()
        self.generators.step()
        fakes = {d: self.pool.exchange(d, fake, self.random) for d, fake in fakes.items()}
        self.critics.zero_grad()
        (self.weights["gan"] * critic_term(self.networks, batch, fakes)).backward()
        self.critics.step()


def generator_terms(networks: Networks, batch: Unpaired) -> tuple[Terms, dict[str, Tensor]]:
    """All terms of the encoders and decoders, and the translations by the domain they are of."""
    a, b = batch.domains
    there = _translate(networks, a, b, batch.a)
    back = _translate(networks, b, a, batch.b)
    negatives_b = _further_negatives(networks, b, a, batch.more_b)
    negatives_a = _further_negatives(networks, a, b, batch.more_a)
    there_terms = _terms(networks.discriminators[b], there, back, negatives_b)
    back_terms = _terms(networks.discriminators[a], back, there, negatives_a)
    terms = {name: there_terms[name] + back_terms[name] for name in there_terms}
    return terms, {b: there.fake, a: back.fake}


def critic_term(networks: Networks, batch: Unpaired, fakes: Mapping[str, Tensor]) -> Tensor:
    """Real images should be told as 1 and translations as 0."""
    terms = []
    for domain, real in zip(batch.domains, (batch.a, batch.b), strict=True):
        critic = networks.discriminators[domain]
        real_loss = least_squares(critic(real), 1.0)
        fake_loss = least_squares(critic(fakes[domain].detach()), 0.0)
        terms.append(0.5 * (real_loss + fake_loss))
    return sum(terms)


def least_squares(heads: list[Tensor], target: float) -> Tensor:
    """Least-squares GAN over both branches' four heads."""
    loss = torch.zeros_like(heads[0].mean())
    for branch in (heads[:4], heads[4:]):
        for weight, head in zip(SCALE_WEIGHTS, branch, strict=True):
            loss = loss + weight * functional.mse_loss(head, torch.full_like(head, target))
    return loss / (4 * sum(SCALE_WEIGHTS))


def similarity(z: Tensor, other: Tensor) -> Tensor:
    """Y of Eq. 16: mean over channels of the spatial cosine."""
    return functional.cosine_similarity(z.flatten(2), other.flatten(2), dim=2).mean()


def activation_map(z: Tensor, other: Tensor) -> Tensor:
    """Eq. 17, 18 as printed: ∂Y/∂z by automatic differentiation, kept differentiable."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = z.clone() if z.requires_grad else z.clone().requires_grad_()  # `other` may follow z
        (slope,) = torch.autograd.grad(similarity(leaf, other), leaf, create_graph=further)
    weights = slope.sum((2, 3), keepdim=True)
    return torch.relu((weights * z).sum(1))


def triplet(positive: Tensor, negative: Tensor, margin: float, alpha: float) -> Tensor:
    """Eq. 22, 23 with the adaptive margin."""
    return torch.relu(1 - negative / (positive + margin * torch.exp(-alpha * positive)))


def nearest(anchor: Tensor, group: list[Tensor]) -> Tensor:
    """Eq. 20, 21: the hardest negative of a group."""
    gaps = [functional.mse_loss(anchor, negative).item() for negative in group]
    return group[gaps.index(min(gaps))]


def _translate(networks: Networks, origin: str, target: str, image: Tensor) -> Way:
    z = networks.encoders[origin](image)
    fake = networks.decoders[target](z)
    z_again = networks.encoders[target](fake)
    rebuilt = networks.decoders[origin](z_again)
    maps = activation_map(z, z_again), activation_map(z_again, z)
    return Way(image, z, fake, z_again, rebuilt, *maps)


@torch.no_grad()
def _further_negatives(
    networks: Networks, origin: str, target: str, images: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Features and activation map of each of the images [K, 3, H, W]."""
    negatives = []
    for image in images:
        z = networks.encoders[origin](image[None])
        z_again = networks.encoders[target](networks.decoders[target](z))
        negatives.append((z, activation_map(z, z_again)))
    return negatives


def _terms(critic: nn.Module, way: Way, other: Way, more: list[tuple[Tensor, Tensor]]) -> Terms:
    """One direction's terms; `other` is the opposite direction, whose image is a negative."""
    group = [(other.z.detach(), other.map.detach()), *more]
    negative = nearest(way.z_again, [z for z, _ in group])
    negative_map = nearest(way.map_again, [found for _, found in group])
    gap = functional.mse_loss(way.z_again, way.z.detach())
    away = functional.mse_loss(way.z_again, negative)
    gap_map = functional.mse_loss(way.map_again, way.map)
    away_map = functional.mse_loss(way.map_again, negative_map)
    return {
        "gan": least_squares(critic(way.fake), 1.0),
        "cycle": functional.l1_loss(way.rebuilt, way.image),
        "fcl": gap,
        "fcl_cosine": 1 - similarity(way.z_again, way.z),
        "triplet_fcl": triplet(gap, away, MARGIN_FCL, ALPHA_FCL),
        "sam": functional.mse_loss(way.map, way.map_again.detach()),
        "triplet_sam": triplet(gap_map, away_map, MARGIN_SAM, ALPHA_SAM),
    }
