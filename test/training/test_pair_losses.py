# SPDX-License-Identifier: Apache-2.0
"""The loss terms of true pairs."""

import pytest
import torch
from support.training_stage import TINY, stage

from training.disam.losses import distillation
from training.disam.networks import create_networks
from training.disam.pairs import aligned_terms
from training.disam.sampling import Aligned
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
OTHERS = ~torch.eye(4, dtype=torch.bool)


def test_distillation_compares_both_encoders_on_images_of_the_frozen_domain():
    stages = [stage(1, losses={"contrastive": 1, "distillation": 2})]
    domains = {"domains": ["day", "night"], "frozen": ["day"]}
    config = parse_config({**TINY, "stages": stages, **domains})
    networks = create_networks(config.network.build(), ("day", "night"), False, seed=0)
    day, night = torch.rand(2, 4, 3, 32, 32)

    def terms(domains, a, b):
        batch, pairs = Aligned(domains, a, b, OTHERS), (config.aligned, config.descriptor)
        return aligned_terms(networks, batch, config.stages[0], *pairs)

    assert "distillation" not in terms(("day", "night"), day, night)  # nothing is frozen
    networks.encoders["day"].requires_grad_(False)
    expected = distillation(networks.encoders["night"](day), networks.encoders["day"](day))
    for batch in ((("day", "night"), day, night), (("night", "day"), night, day)):
        assert terms(*batch)["distillation"].item() == pytest.approx(expected.item())
    assert "distillation" not in terms(("night", "night"), night, night)
