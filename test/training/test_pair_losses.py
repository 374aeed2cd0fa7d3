# SPDX-License-Identifier: Apache-2.0
"""The loss terms of true pairs."""

import numpy as np
import pytest
import torch
from support import paper
from support.training_stage import TINY, stage

from disam_ros.config import DescriptorConfig
from training.disam.config import AlignedConfig
from training.disam.losses import distillation
from training.disam.matching import similarity_of
from training.disam.networks import create_networks
from training.disam.pairs import aligned_terms, best_overlap, negatives_of
from training.disam.sampling import Aligned
from training.disam.scales import Scales
from training.engine.networks import Networks
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
ALIGNED = ("aligned_fcl", "aligned_triplet", "aligned_sam", "aligned_triplet_sam", "contrastive")
OTHERS = ~torch.eye(4, dtype=torch.bool)


def features(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 8, generator=generator, dtype=torch.float64)


def terms_of(z_a, z_b, different, form="relative", hard=True, name="fine"):
    """Terms where the encoders give these features."""
    networks = Networks({"a": lambda _: z_a, "b": lambda _: z_b})
    config = parse_config({"stages": [stage(name=name, losses=dict.fromkeys(ALIGNED, 1))]})
    batch, pairs = Aligned(("a", "b"), z_a, z_b, different), AlignedConfig()
    return aligned_terms(
        networks, batch, config.stages[0], pairs, DescriptorConfig(), hard, form, Scales()
    )


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("form", ["paper", "relative"])
def test_pair_losses_have_the_values_of_the_papers_equations(monkeypatch, form, hard):
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    a, b = features(0), features(1)
    b = 0.6 * a + 0.4 * b
    different = OTHERS.clone()
    different[0, 1] = different[1, 0] = False
    terms = terms_of(a, b, different, form, hard)
    scores = similarity_of("fine", DescriptorConfig())(a, b).numpy()
    gaps = np.sqrt(2 - 2 * scores)
    gaps /= gaps[different.numpy()].mean() if form == "relative" else 1.0
    assert terms["aligned_fcl"].item() == pytest.approx(np.mean(np.diag(gaps) ** 2))
    sides = []
    for rows, allowed in ((gaps, different.numpy()), (gaps.T, different.numpy().T)):
        values = []
        for k in range(4):
            others = [rows[k, j] for j in range(4) if allowed[k, j]]
            others = [min(others)] if hard else others
            values += [paper.triplet(rows[k, k], other, 0.5, 2.0) for other in others]
        sides.append(np.mean(values))
    assert terms["aligned_triplet"].item() == pytest.approx(np.mean(sides))
    positive = [map_gap(a[k], b[k], form) for k in range(4)]
    far = []
    for x, y, allowed in ((a, b, different), (b, a, different.T)):
        chosen = negatives_of(x, y, allowed, hard)
        far += [map_gap(x[k], y[int(chosen[k])], form) for k in range(4)]
    unit = np.mean(far) if form == "relative" else 1.0
    assert terms["aligned_sam"].item() == pytest.approx(np.mean(positive) / unit, rel=1e-5)
    hinges = [
        paper.triplet(p / unit, n / unit, 0.5, 2.0) for p, n in zip(2 * positive, far, strict=True)
    ]
    assert terms["aligned_triplet_sam"].item() == pytest.approx(np.mean(hinges), rel=1e-5)


def map_gap(a, b, form):
    """Distance of the maps of a pair, shifted onto each other."""
    x, y = best_overlap(a[None], b[None])
    return paper.map_distance(x[0].numpy(), y[0].numpy(), form)


def test_hard_negatives_of_maps_are_the_most_similar_of_another_place():
    a = features(0)
    b = torch.stack([a[2], a[0], a[1], a[3]])
    different = torch.ones(4, 4, dtype=torch.bool)
    assert negatives_of(a, b, different, True).tolist() == [1, 2, 0, 3]
    different[0, 1] = False
    assert negatives_of(a, b, different, True)[0] != 1
    assert negatives_of(a, b, OTHERS, False).tolist() == [1, 2, 3, 0]


def test_pairs_from_another_lane_are_shifted_onto_each_other():
    wide = torch.randn(1, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    a, b = wide[..., :8], wide[..., 2:]  # two cells to the right
    x, y = best_overlap(a, b)
    torch.testing.assert_close(x, y)
    assert (x[..., -2:] == 0).all() and (x[..., :-2] == a[..., 2:]).all()


@pytest.mark.parametrize("form", ["released", "relative"])
def test_gradients_are_finite_and_zero_only_where_a_batch_has_no_sure_negative(form):
    for different in (OTHERS, torch.zeros(4, 4, dtype=torch.bool)):
        a, b = features(0).float(), features(1).float().requires_grad_()
        for name, term in terms_of(a, b, different, form).items():
            (slope,) = torch.autograd.grad(term, b, retain_graph=True)
            assert slope.isfinite().all(), name
            assert slope.norm() > 0 or not different.any(), name


def test_distillation_compares_both_encoders_on_images_of_the_frozen_domain():
    stages = [stage(1, losses={"contrastive": 1, "distillation": 2})]
    domains = {"domains": ["day", "night"], "frozen": ["day"]}
    config = parse_config({**TINY, "stages": stages, **domains})
    networks = create_networks(config.network.build(), ("day", "night"), False, seed=0)
    day, night = torch.rand(2, 4, 3, 32, 32)

    def terms(domains, a, b):
        batch, pairs = Aligned(domains, a, b, OTHERS), (config.aligned, config.descriptor)
        return aligned_terms(networks, batch, config.stages[0], *pairs, False, "released", Scales())

    assert "distillation" not in terms(("day", "night"), day, night)  # nothing is frozen
    networks.encoders["day"].requires_grad_(False)
    expected = distillation(networks.encoders["night"](day), networks.encoders["day"](day))
    for batch in ((("day", "night"), day, night), (("night", "day"), night, day)):
        assert terms(*batch)["distillation"].item() == pytest.approx(expected.item())
    assert "distillation" not in terms(("night", "night"), night, night)
