# SPDX-License-Identifier: Apache-2.0
"""The loss terms of translation, from networks and a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from training.disam import losses
from training.disam.config import DisamStageConfig, TripletConfig
from training.disam.networks import NegativeBank, TranslationPool
from training.disam.sampling import Unpaired
from training.disam.scales import Scales
from training.engine.networks import Networks, Terms

REPRESENTATION = ("fcl", "fcl_cosine", "triplet_fcl", "sam", "triplet_sam")
MARGINS = {"fcl": (5.0, 2.0), "sam": (0.1, 1000.0)}  # m_f, α_f and m_s, α_s of the paper
RAMPED = ("fcl", "fcl_cosine", "triplet_fcl", "sam")  # the paper's cycle and triplet SAM are not


@dataclass
class Translated:
    """Images of domain i on their way to domain j and back."""

    origin: str  # domain i
    target: str  # domain j
    image: Tensor  # x_i [B, 3, H, W]
    z: Tensor  # E_i(x_i), [B, C, h, w]
    fake: Tensor  # D_j(z), the translation
    z_again: Tensor | None  # z' = E_j(fake)


def weights_at(stage: DisamStageConfig, step: int) -> dict[str, float]:
    """Returns λ of the losses that are on in one step; those of RAMPED grow linearly."""
    rise = min(1.0, step / (stage.ramp * stage.steps)) if stage.ramp > 0 else 1.0
    rise = stage.ramp_from + (1.0 - stage.ramp_from) * rise
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
    stage: DisamStageConfig,
    triplets: TripletConfig,
    bank: NegativeBank,
    hard: bool,
    scales: Scales,
) -> tuple[Terms, tuple[Translated, Translated]]:
    """GAN, cycle and representation terms, both directions added up, and the translations.

    Features of the images enter the bank, distances of negative pairs the scales.
    """
    a, b = batch.domains
    names = stage.losses.on()
    again = bool(set(names) - {"gan"})
    across = translate(networks, a, b, batch.a, again)
    back = translate(networks, b, a, batch.b, again)
    terms: Terms = {}
    for way in (across, back):
        if "gan" in names:
            _add(terms, "gan", losses.gan_loss(networks.discriminators[way.target](way.fake), 1.0))
        if "cycle" in names:
            rebuilt = networks.decoders[way.origin](way.z_again)
            _add(terms, "cycle", losses.cycle_loss(rebuilt, way.image))
    if set(names) & set(REPRESENTATION):
        if hard and not triplets.cached:
            bank = _fresh_bank(networks, batch, triplets.form)
        with torch.autocast(batch.a.device.type, enabled=False):
            _add_representation(terms, (across, back), stage, triplets, bank, hard, scales)
    return terms, (across, back)


@dataclass
class _Directions:
    """Features of both directions, as distances take them, and their negatives."""

    pairs: list[tuple[Tensor, Tensor]]  # z and z' of each direction
    anchors: list[Tensor]  # z' or z, which negative pairs are anchored on
    real: list[Tensor]  # z of the other real image [B, C, h, w], without gradient
    more: list[Tensor | None]  # further negatives of its domain [K, C, h, w], for the hardest

    def away(self, measure: losses.Measure) -> list[Tensor]:
        """Measures the distances [B] between the anchor and the other real image."""
        both = zip(self.anchors, self.real, strict=True)
        return [measure(anchor, real) for anchor, real in both]

    def hardest(self, measure: losses.Measure, away: list[Tensor]) -> list[Tensor]:
        """Measures the distances [B] to the nearest negative; `away` where there is only one."""
        hardest_rows = []
        for anchor, real, more, only in zip(self.anchors, self.real, self.more, away, strict=True):
            if more is None:
                hardest_rows.append(only)
                continue
            group = torch.cat([real, more.to(real)])
            hardest_rows.append(measure(anchor, losses.hardest_negative(anchor, group, measure)))
        return hardest_rows


def _add_representation(
    terms: Terms,
    ways: tuple[Translated, Translated],
    stage: DisamStageConfig,
    triplets: TripletConfig,
    bank: NegativeBank,
    hard: bool,
    scales: Scales,
) -> None:
    """Eq. 12, 16–23 in float32.

    Negative pairs are anchored on the translated side, unless `triplets.negatives` says otherwise,
    and their other side has no gradient.
    """
    names = set(stage.losses.on())
    pairs = [
        (_comparable(way.z, triplets.form), _comparable(way.z_again, triplets.form)) for way in ways
    ]
    real = [z.detach() for z, _ in pairs[::-1]]
    more = [bank.get(way.target) if hard else None for way in ways]
    anchors = [pair[triplets.negatives == "translated"] for pair in pairs]  # z' or z
    directions = _Directions(pairs, anchors, real, more)
    if "fcl_cosine" in names:
        for z, z_again in pairs:
            _add(terms, "fcl_cosine", losses.feature_cosine_loss(z_again, z))
    if names & {"fcl", "triplet_fcl"}:
        _add_feature_terms(terms, directions, names, triplets, stage.adaptive, scales)
    if names & {"sam", "triplet_sam"}:
        _add_map_terms(terms, directions, names, triplets, stage.adaptive, scales)
    if stage.hard_from < 1 and triplets.cached and names & {"triplet_fcl", "triplet_sam"}:
        for way, (z, _) in zip(ways, pairs, strict=True):
            bank.push(way.origin, z)


def _add_feature_terms(
    terms: Terms,
    directions: _Directions,
    names: set[str],
    triplets: TripletConfig,
    adaptive: bool,
    scales: Scales,
) -> None:
    """Eq. 12, 20 and 22."""
    form = triplets.form
    measure = partial(losses.distance, form=form)
    away = directions.away(measure)
    unit = scales.update("z", torch.cat(away)) if form == "relative" else 1.0
    gaps = [losses.feature_consistency(z_again, z, form) / unit for z, z_again in directions.pairs]
    if "fcl" in names:
        terms["fcl"] = torch.stack(gaps).mean(1).sum()
    if "triplet_fcl" in names:
        margin = margin_of("fcl", triplets, adaptive)
        for gap, far in zip(gaps, directions.hardest(measure, away), strict=True):
            _add(terms, "triplet_fcl", losses.adaptive_triplet(gap, far / unit, *margin))


def _add_map_terms(
    terms: Terms,
    directions: _Directions,
    names: set[str],
    triplets: TripletConfig,
    adaptive: bool,
    scales: Scales,
) -> None:
    """Eq. 19, 21 and 23; both maps of a negative pair are taken with respect to each other."""
    form = triplets.form
    measure = partial(losses.map_distance, form=form)
    away = directions.away(measure) if form == "relative" or "triplet_sam" in names else []
    unit = scales.update("map", torch.cat(away)) if form == "relative" else 1.0
    maps = [losses.activation_pair(z, z_again) for z, z_again in directions.pairs]
    if "sam" in names:
        for pair in maps:
            gap = losses.activation_consistency(*pair, form)
            _add(terms, "sam", (gap / unit).mean())
    if "triplet_sam" in names:
        margin = margin_of("sam", triplets, adaptive)
        for pair, far in zip(maps, directions.hardest(measure, away), strict=True):
            gap = losses.distance(*pair, form) / unit
            _add(terms, "triplet_sam", losses.adaptive_triplet(gap, far / unit, *margin))


def margin_of(kind: str, triplets: TripletConfig, adaptive: bool) -> tuple[float, float]:
    """Returns m and α of a triplet, kind "fcl" or "sam"; α = 0 makes the margin constant."""
    margin, alpha = MARGINS[kind]
    if triplets.form == "relative":
        margin, alpha = triplets.margin, losses.RELATIVE_ALPHA
    return margin, alpha if adaptive else 0.0


@torch.no_grad()
def _fresh_bank(networks: Networks, batch: Unpaired, form: str) -> NegativeBank:
    """Encodes further negatives of both domains with the present weights."""
    fresh = NegativeBank(max(1, len(batch.more_a)))
    for domain, images in zip(batch.domains, (batch.more_a, batch.more_b), strict=True):
        if len(images):
            fresh.push(domain, losses.comparable(networks.encoders[domain](images).float(), form))
    return fresh


def discriminator_terms(
    networks: Networks,
    ways: tuple[Translated, Translated],
    pool: TranslationPool,
    random: np.random.Generator,
) -> Terms:
    """GAN loss of the discriminators: real images against 1, (past) translations against 0."""
    terms: Terms = {}
    for way, other in (ways, ways[::-1]):
        critic = networks.discriminators[way.target]
        real = losses.gan_loss(critic(other.image), 1.0)
        fake = losses.gan_loss(critic(pool.exchange(way.target, way.fake, random)), 0.0)
        _add(terms, "discriminator", 0.5 * (real + fake))
    return terms


def _add(terms: Terms, name: str, value: Tensor) -> None:
    terms[name] = terms[name] + value if name in terms else value


def _comparable(z: Tensor | None, form: str) -> Tensor:
    """Features of a way as the losses compare them, in float32."""
    assert z is not None  # a stage with losses on features computes them
    return losses.comparable(z.float(), form)
