# SPDX-License-Identifier: Apache-2.0
"""The loss terms of one step, from networks and a batch. No optimizer, no files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from disam_ros.config import DescriptorConfig
from training.disam import losses
from training.disam.config import AlignedConfig, StageConfig, TripletConfig
from training.disam.matching import similarity_of
from training.disam.networks import NegativeBank, TranslationPool
from training.disam.sampling import Aligned, Unpaired
from training.engine.networks import Networks, Terms

REPRESENTATION = ("fcl", "fcl_cosine", "triplet_fcl", "sam", "triplet_sam")
RAMPED = ("fcl", "fcl_cosine", "triplet_fcl", "sam")  # the paper's cycle and triplet SAM are not


@dataclass
class Translated:
    """Images x_i [B, 3, H, W] of domain i on their way to domain j and back."""

    origin: str
    target: str
    image: Tensor
    z: Tensor  # E_i(x_i), [B, C, h, w]
    fake: Tensor  # D_j(z), the translation
    z_again: Tensor | None  # z' = E_j(fake)


def weights_at(stage: StageConfig, step: int) -> dict[str, float]:
    """λ of the losses that are on, in one step; those of RAMPED grow linearly from 0."""
    rise = min(1.0, step / (stage.ramp * stage.steps)) if stage.ramp > 0 else 1.0
    return {k: v * rise if k in RAMPED else v for k, v in stage.losses.on().items()}


def translate(
    networks: Networks, origin: str, target: str, image: Tensor, again: bool
) -> Translated:
    """Encode, translate and (`again`) encode the translation."""
    z = networks.encoders[origin](image)
    fake = networks.decoders[target](z)
    z_again = networks.encoders[target](fake) if again else None
    return Translated(origin, target, image, z, fake, z_again)


def generator_terms(
    networks: Networks,
    batch: Unpaired,
    stage: StageConfig,
    triplets: TripletConfig,
    bank: NegativeBank,
    hard: bool,
) -> tuple[Terms, tuple[Translated, Translated]]:
    """GAN, cycle and representation terms, both directions added up, and the translations.

    Features of this step's images enter the bank.
    """
    a, b = batch.domains
    names = stage.losses.on()
    again = bool(set(names) - {"gan"})
    there = translate(networks, a, b, batch.a, again)
    back = translate(networks, b, a, batch.b, again)
    terms: Terms = {}
    for way in (there, back):
        if "gan" in names:
            _add(terms, "gan", losses.gan_loss(networks.discriminators[way.target](way.fake), 1.0))
        if "cycle" in names:
            rebuilt = networks.decoders[way.origin](way.z_again)
            _add(terms, "cycle", losses.cycle_loss(rebuilt, way.image))
    if set(names) & set(REPRESENTATION):
        if hard and not triplets.cached:
            bank = _fresh_bank(networks, batch, "triplet_sam" in names)
        with torch.autocast(batch.a.device.type, enabled=False):
            _add_representation(terms, there, back, stage, triplets, bank, hard)
    return terms, (there, back)


def _add_representation(
    terms: Terms,
    there: Translated,
    back: Translated,
    stage: StageConfig,
    triplets: TripletConfig,
    bank: NegativeBank,
    hard: bool,
) -> None:
    """Eq. 12, 16–23 in float32, anchored on the translated side, negatives without gradient."""
    names, form = stage.losses.on(), triplets.form
    m_f, alpha_f, m_s, alpha_s = margins(triplets, stage.adaptive)
    features = [(way.z.float(), way.z_again.float()) for way in (there, back)]
    maps: list[tuple[Tensor, Tensor]] = []
    if "sam" in names or "triplet_sam" in names:
        maps = [losses.activation_pair(*pair) for pair in features]
    for k, way in enumerate((there, back)):
        z, z_again = features[k]
        gap = losses.feature_consistency(z_again, z, form)
        if "fcl" in names:
            _add(terms, "fcl", gap.mean())
        if "fcl_cosine" in names:
            _add(terms, "fcl_cosine", losses.feature_cosine_loss(z_again, z))
        if "triplet_fcl" in names:
            negative = _negative(z_again, features[1 - k][0], bank.get("z", way.target), form, hard)
            away = losses.distance(z_again, negative, form)
            _add(terms, "triplet_fcl", losses.adaptive_triplet(gap, away, m_f, alpha_f))
        if "sam" in names:
            _add(terms, "sam", losses.activation_consistency(*maps[k], form).mean())
        if "triplet_sam" in names:
            real, anchor = maps[k]
            negative = _negative(anchor, maps[1 - k][0], bank.get("map", way.target), form, hard)
            gap, away = (losses.distance(anchor, x, form) for x in (real, negative))
            _add(terms, "triplet_sam", losses.adaptive_triplet(gap, away, m_s, alpha_s))
    if stage.hard_from < 1 and triplets.cached:
        for k, way in enumerate((there, back)):
            if "triplet_fcl" in names:
                bank.push("z", way.origin, features[k][0])
            if "triplet_sam" in names:
                bank.push("map", way.origin, maps[k][0])


def margins(triplets: TripletConfig, adaptive: bool) -> tuple[float, float, float, float]:
    """m_f, α_f, m_s, α_s; α = 0 makes the margin constant."""
    on = float(adaptive)
    return (
        triplets.margin_fcl,
        on * triplets.alpha_fcl,
        triplets.margin_sam,
        on * triplets.alpha_sam,
    )


def _negative(anchor: Tensor, own: Tensor, more: Tensor | None, form: str, hard: bool) -> Tensor:
    """The other real image's features or map [B, ...]; hard: the nearest of these and `more`."""
    own = own.detach()
    if not hard:
        return own
    group = own if more is None else torch.cat([own, more])
    return losses.hardest_negative(anchor, group, form)


@torch.no_grad()
def _fresh_bank(networks: Networks, batch: Unpaired, with_maps: bool) -> NegativeBank:
    """Further negatives of both domains encoded with the present weights."""
    fresh = NegativeBank(max(1, len(batch.more_a)))
    a, b = batch.domains
    for origin, target, images in ((a, b, batch.more_a), (b, a, batch.more_b)):
        if not len(images):
            continue
        if not with_maps:
            fresh.push("z", origin, networks.encoders[origin](images).float())
            continue
        way = translate(networks, origin, target, images, again=True)
        fresh.push("z", origin, way.z.float())
        real, _ = losses.activation_pair(way.z.float(), way.z_again.float())
        fresh.push("map", origin, real)
    return fresh


def discriminator_terms(
    networks: Networks,
    ways: tuple[Translated, Translated],
    pool: TranslationPool,
    random: np.random.Generator,
) -> Terms:
    """Least squares of real images against 1 and of (past) translations against 0, halved."""
    terms: Terms = {}
    for way, other in (ways, ways[::-1]):
        critic = networks.discriminators[way.target]
        real = losses.gan_loss(critic(other.image), 1.0)
        fake = losses.gan_loss(critic(pool.exchange(way.target, way.fake, random)), 0.0)
        _add(terms, "discriminator", 0.5 * (real + fake))
    return terms


def aligned_terms(
    networks: Networks,
    batch: Aligned,
    stage: StageConfig,
    config: AlignedConfig,
    descriptor: DescriptorConfig,
    hard: bool,
) -> Terms:
    """Losses on true pairs, with the similarity that retrieval uses."""
    similarity = similarity_of(stage.name, descriptor)
    z_a, z_b = (
        networks.encoders[d](x) for d, x in zip(batch.domains, (batch.a, batch.b), strict=True)
    )
    terms: Terms = {}
    with torch.autocast(batch.a.device.type, enabled=False):
        similarities = similarity(z_a.float(), z_b.float())
        if stage.losses.aligned_triplet > 0:
            alpha = config.alpha if stage.adaptive else 0.0
            terms["aligned_triplet"] = losses.aligned_triplet(
                similarities, batch.different, config.margin, alpha, hard
            )
        if stage.losses.contrastive > 0:
            terms["contrastive"] = losses.contrastive(
                similarities, batch.different, config.temperature
            )
    if stage.losses.distillation > 0:
        sides = zip(batch.domains, (batch.a, batch.b), (z_a, z_b), batch.domains[::-1], strict=True)
        for domain, image, teacher, other in sides:
            if networks.is_frozen(domain) and not networks.is_frozen(other):
                z = networks.encoders[other](image)
                terms["distillation"] = losses.distillation(z.float(), teacher.float())
    return terms


def _add(terms: Terms, name: str, value: Tensor) -> None:
    terms[name] = terms[name] + value if name in terms else value
