# SPDX-License-Identifier: Apache-2.0
"""Terms of DISAM's losses, what is drawn for them, and their weights."""

import numpy as np
import pytest
import torch
from support.training_stage import (
    couple,
    recipe,
    stage,
    stage_run,
)

from training.disam.config import TripletConfig
from training.disam.losses import distance
from training.disam.networks import NegativeBank, TranslationPool, create_networks
from training.disam.sampling import Batch
from training.disam.scales import Scales
from training.disam.steps import generator_terms, margin_of, weights_at
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")


def test_coarse_and_fine_start_from_translation():
    config = parse_config({"stages": [stage(name=n) for n in ("translation", "coarse", "fine")]})
    assert [config.start_of(s) for s in config.stages] == ["", "translation", "translation"]
    assert parse_config({"stages": [stage()]}).start_of(config.stages[0]) == ""


def test_weights_of_feature_and_map_losses_grow_linearly_and_the_others_do_not():
    chosen = parse_config({"stages": [stage(steps=100)]}).stages[0]
    half = weights_at(chosen, 50)
    assert half["fcl"] == pytest.approx(0.05) and half["sam"] == pytest.approx(500)
    assert half["cycle"] == 10 and half["triplet_sam"] == 1
    assert weights_at(chosen, 0)["triplet_fcl"] == 0.0


def test_learning_rate_is_constant_and_then_falls_linearly_to_zero(tmp_path):
    run = stage_run(recipe(tmp_path, [stage(steps=10, constant=0.5)]))
    rates = [run.learning_rate(step) / 2e-4 for step in range(11)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


def test_a_ramp_may_start_from_a_share_of_the_weight():
    chosen = parse_config({"stages": [stage(steps=100, ramp=0.5, ramp_from=0.5)]}).stages[0]
    result = [weights_at(chosen, step)["sam"] for step in (0, 25, 50, 100)]
    assert result == pytest.approx([500, 750, 1000, 1000])


def test_constant_margin_is_alpha_zero_and_the_relative_form_has_margins_of_its_own():
    released, relative = TripletConfig(), TripletConfig(form="relative")
    assert margin_of("fcl", released, adaptive=True) == (5.0, 2.0)
    assert margin_of("sam", released, adaptive=True) == (0.1, 1000.0)
    assert margin_of("sam", released, adaptive=False) == (0.1, 0.0)
    assert margin_of("fcl", relative, adaptive=True) == (1.0, 2.0)


# Parts


def test_networks_of_all_domains_start_equal_and_the_seed_decides(tmp_path):
    config = recipe(tmp_path, [stage()])
    a, b = (create_networks(config.network.build(), ["day", "night"], True, s) for s in (0, 1))
    day, night = (a.encoders[d].state_dict() for d in ("day", "night"))
    assert all(torch.equal(day[k], night[k]) for k in day)
    assert not torch.equal(day["model.1.weight"], b.encoders["day"].state_dict()["model.1.weight"])


def test_pool_gives_new_images_until_full_and_then_old_ones_half_the_time():
    pool, random = TranslationPool(3), np.random.default_rng(0)
    given = [pool.exchange("day", torch.full((1, 1), float(k)), random).item() for k in range(60)]
    assert given[:3] == [0, 1, 2]
    fresh = sum(value == k for k, value in enumerate(given[3:], 3))
    assert 15 < fresh < 45
    assert pool.state()["pool/day"].shape == (3, 1)


def test_bank_keeps_the_newest_negatives():
    bank = NegativeBank(3)
    for k in range(5):
        bank.push("day", torch.tensor([[float(k)]]))
    assert bank.get("day").flatten().tolist() == [2, 3, 4]
    assert bank.get("night") is None


@pytest.mark.parametrize("cached", [True, False])
def test_hard_negatives_are_the_nearest_of_the_group_and_need_no_gradient(tmp_path, cached):
    """d_n can only be smaller than with the one random negative, so the triplet is larger."""
    config = recipe(tmp_path, [stage()], triplets={"group": 4, "cached": cached})
    run = stage_run(config)
    batch = couple(0, more=3)
    for k in range(1, 4):
        run.losses(0, Batch(couple(k), None))
    result = []
    for hard in (False, True):
        bank = NegativeBank(3)
        bank.load(run.bank.state(), run.device)
        given = run.networks, batch, run.stage, config.triplets, bank, hard, Scales()
        terms, _ = generator_terms(*given)
        terms["triplet_fcl"].backward(retain_graph=True)
        result.append(terms)
    for name in ("triplet_fcl", "triplet_sam"):
        assert result[1][name] >= result[0][name]
    assert result[1]["fcl"] == result[0]["fcl"]
    if cached:
        assert len(run.bank.get("day")) == len(run.bank.get("night")) == 3
        assert not run.bank.get("day").requires_grad


def test_representation_terms_equal_a_straightforward_computation(tmp_path):
    config = recipe(tmp_path, [stage()], triplets={"form": "paper"})
    run, batch = stage_run(config), couple(0)
    terms, ways = run.losses(0, Batch(batch, None))
    e, d = run.networks.encoders, run.networks.decoders
    z_a, z_b = e["day"](batch.a), e["night"](batch.b)
    again_b, again_a = e["night"](d["night"](z_a)), e["day"](d["day"](z_b))
    gaps = [distance(again_b, z_a, "paper"), distance(again_a, z_b, "paper")]
    away = [distance(again_b, z_b, "paper"), distance(again_a, z_a, "paper")]
    assert terms["fcl"].item() == pytest.approx((gaps[0] + gaps[1]).item(), rel=1e-5)
    expected = sum(
        max(0.0, 1 - (n / (p + 5 * torch.exp(-2 * p))).item())
        for p, n in zip(gaps, away, strict=True)
    )
    assert terms["triplet_fcl"].item() == pytest.approx(expected, abs=1e-5)
    cycle = (d["day"](again_b) - batch.a).abs().mean() + (
        d["night"](again_a) - batch.b
    ).abs().mean()
    assert terms["cycle"].item() == pytest.approx(cycle.item(), rel=1e-5)
    torch.testing.assert_close(ways[0].z_again, again_b)
