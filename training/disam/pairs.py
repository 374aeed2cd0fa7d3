# SPDX-License-Identifier: Apache-2.0
"""The loss terms of true pairs, with the similarity that retrieval uses."""

from __future__ import annotations

import torch

from disam_ros.config import DescriptorConfig
from training.disam import losses
from training.disam.config import AlignedConfig, DisamStageConfig
from training.disam.matching import similarity_of
from training.disam.sampling import Aligned
from training.engine.networks import Networks, Terms


def aligned_terms(
    networks: Networks,
    batch: Aligned,
    stage: DisamStageConfig,
    config: AlignedConfig,
    descriptor: DescriptorConfig,
) -> Terms:
    """Losses on true pairs, by name, without their weights."""
    on = stage.losses.on()
    z_a, z_b = (
        networks.encoders[d](x) for d, x in zip(batch.domains, (batch.a, batch.b), strict=True)
    )
    terms: Terms = {}
    with torch.autocast(batch.a.device.type, enabled=False):
        if "contrastive" in on:
            similarities = similarity_of(stage.name, descriptor)(z_a.float(), z_b.float())
            terms["contrastive"] = losses.contrastive(
                similarities, batch.different, config.temperature
            )
    if "distillation" in on:
        sides = zip(batch.domains, (batch.a, batch.b), (z_a, z_b), batch.domains[::-1], strict=True)
        for domain, image, teacher, other in sides:
            if networks.is_frozen(domain) and not networks.is_frozen(other):
                z = networks.encoders[other](image)
                terms["distillation"] = losses.distillation(z.float(), teacher.float())
    return terms
