# SPDX-License-Identifier: Apache-2.0
"""A stage of DISAM: networks, what is drawn for its losses, weights and rates, one step."""

import socket

import numpy as np
import pytest
import torch
from support.training_stage import (
    PAPER,
    TINY,
    couple,
    gradients_of,
    one_of_two_processes,
    recipe,
    stage,
    stage_run,
)

from disam_ros.errors import ConfigError
from training.disam.config import TripletConfig
from training.disam.networks import NegativeBank, TranslationPool, create_networks
from training.disam.sampling import Batch, Unpaired
from training.disam.scales import Scales
from training.disam.stage import StageRun
from training.disam.steps import generator_terms, margin_of, weights_at
from training.engine.shares import PATIENCE, GradientWatch, gradient_norms, gradient_shares
from training.errors import TrainingError
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")


# Networks


def test_networks_of_all_domains_start_equal_and_the_seed_decides(tmp_path):
    config = recipe(tmp_path, [stage()])
    a, b = (create_networks(config.network.build(), ["day", "night"], True, s) for s in (0, 1))
    day, night = (a.encoders[d].state_dict() for d in ("day", "night"))
    assert all(torch.equal(day[k], night[k]) for k in day)
    assert not torch.equal(day["model.1.weight"], b.encoders["day"].state_dict()["model.1.weight"])


def test_shared_blocks_are_one_and_stay_equal_and_the_rest_is_each_domains_own(tmp_path):
    network = {**TINY["network"], "encoder_blocks": 2, "shared_blocks": 1}
    config = recipe(tmp_path, [stage()], network=network)
    build = config.network.build()
    networks = create_networks(build, ["day", "night"], True, 0, config.network.shared_blocks)
    run = StageRun(config, 0, networks, torch.device("cpu"))
    for step in range(2):
        run.step(step, Batch(couple(step), None))
    day, night = (networks.encoders[d].state_dict() for d in ("day", "night"))
    same = {key.split(".")[1] for key in day if torch.equal(day[key], night[key])}
    assert "11" in same and "10" not in same  # the second of two residual blocks
    state = networks.state()
    assert len({value.data_ptr() for value in state.values()}) == len(state)  # can be saved
    alone = create_networks(build, ["day", "night"], True, 0)
    alone.load(state)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(alone.encoders["night"](image), networks.encoders["night"](image))


@pytest.mark.parametrize("encoder", ["disam", "mobile"])
@pytest.mark.parametrize("sharing", ["trunk", "all"])
def test_shared_weights_are_one_and_of_a_trunk_the_rest_is_each_domains_own(encoder, sharing):
    network = {**TINY["network"], "encoder": encoder, "width": 28 if encoder == "mobile" else 2}
    config = parse_config({**TINY, "network": {**network, "sharing": sharing}, "stages": [stage()]})
    networks = create_networks(config.network.build(), ["a", "b"], False, 0, 0, sharing)
    a, b = networks.encoders.values()
    b(torch.rand(1, 3, 32, 32)).square().mean().backward()
    torch.optim.SGD(networks.generators(), 0.1).step()
    changed = {k for k, v in a.named_parameters() if not torch.equal(v, b.get_parameter(k))}
    sizes = {k: v.numel() for k, v in a.named_parameters()}
    apart = sum(sizes[k] for k in changed)
    assert (apart == 0) if sharing == "all" else (0 < apart < 0.2 * sum(sizes.values()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": {"shared_blocks": 5}}, "at most 4"),
        ({"network": {"encoder": "mobile", "width": 28, "shared_blocks": 1}}, "'mobile'"),
        ({"network": {"shared_blocks": 1}, "domains": ["a", "b"], "frozen": ["a"]}, "exclude"),
        ({"network": {"sharing": "all"}, "domains": ["a", "b"], "frozen": ["a"]}, "exclude"),
    ],
)
def test_blocks_that_cannot_be_shared_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        parse_config({"stages": [stage()], **changes})


# Weights, rates and negatives


def test_coarse_and_fine_start_from_translation():
    config = parse_config({"stages": [stage(name=n) for n in ("translation", "coarse", "fine")]})
    assert [config.start_of(s) for s in config.stages] == ["", "translation", "translation"]
    assert parse_config({"stages": [stage()]}).start_of(config.stages[0]) == ""


def test_weights_of_feature_and_map_losses_ramp_up_and_the_others_do_not():
    plain, raised = (
        parse_config({"stages": [stage(steps=100, **changes)]}).stages[0]
        for changes in ({}, {"ramp": 0.5, "ramp_from": 0.5})
    )
    half = weights_at(plain, 50)
    assert half["fcl"] == pytest.approx(0.05) and half["sam"] == pytest.approx(500)
    assert half["cycle"] == 10 and half["triplet_sam"] == 1
    assert weights_at(plain, 0)["triplet_fcl"] == 0.0
    ramp = [weights_at(raised, step)["sam"] for step in (0, 25, 50, 100)]
    assert ramp == pytest.approx([500, 750, 1000, 1000])


def test_learning_rate_is_constant_and_then_falls_linearly_to_zero(tmp_path):
    run = stage_run(recipe(tmp_path, [stage(steps=10, constant=0.5)]))
    rates = [run.learning_rate(step) / 2e-4 for step in range(11)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


def test_constant_margin_is_alpha_zero_and_the_relative_form_has_a_margin_of_its_own():
    released, relative = TripletConfig(), TripletConfig(form="relative", margin=1.5)
    assert margin_of("fcl", released, adaptive=True) == (5.0, 2.0)
    assert margin_of("sam", released, adaptive=True) == (0.1, 1000.0)
    assert margin_of("sam", released, adaptive=False) == (0.1, 0.0)
    assert margin_of("fcl", relative, adaptive=True) == (1.5, 2.0)


def test_pool_gives_new_images_until_full_and_then_old_ones_half_the_time():
    pool, random = TranslationPool(3), np.random.default_rng(0)
    values = [pool.exchange("day", torch.full((1, 1), float(k)), random).item() for k in range(60)]
    assert values[:3] == [0, 1, 2]
    assert 15 < sum(value == k for k, value in enumerate(values[3:], 3)) < 45
    assert pool.state()["pool/day"].shape == (3, 1)


def test_bank_keeps_the_newest_negatives():
    bank = NegativeBank(3)
    for k in range(5):
        bank.push("day", torch.tensor([[float(k)]]))
    assert bank.get("day").flatten().tolist() == [2, 3, 4]
    assert bank.get("night") is None


@pytest.mark.parametrize("cached", [True, False])
def test_hard_negatives_are_of_recent_steps_or_encoded_anew(tmp_path, cached):
    """d_n can only be smaller than with the one random negative, so the triplet is larger."""
    config = recipe(tmp_path, [stage()], triplets={"group": 4, "cached": cached})
    run, batch = stage_run(config), couple(0, more=3)
    for k in range(1, 4):
        run.losses(0, Batch(couple(k), None))
    few, many = (
        generator_terms(run.networks, batch, run.stage, config.triplets, run.bank, hard, Scales())[
            0
        ]
        for hard in (False, True)
    )
    for name in ("triplet_fcl", "triplet_sam"):
        assert many[name] > few[name]
    assert many["fcl"] == few["fcl"]


# One step


def test_a_step_changes_the_networks_of_its_two_domains_only(tmp_path):
    config = recipe(tmp_path, [stage()])
    networks = create_networks(config.network.build(), ["day", "night", "dusk"], True, 0)
    run = StageRun(config, 0, networks, torch.device("cpu"))
    before = {k: v.clone() for k, v in networks.state().items()}
    run.step(5, Batch(couple(0), None))
    changed = {
        k.split("/")[1] for k, v in networks.state().items() if not torch.equal(v, before[k])
    }
    assert changed == {"day", "night"}


def test_a_stage_learns_in_bfloat16_and_channels_last(tmp_path):
    config = recipe(
        tmp_path,
        [stage(steps=20, losses={"cycle": 10})],
        precision="bfloat16",
        channels_last=True,
        learning_rate=4e-3,
    )
    run = stage_run(config)
    values = [run.step(0, Batch(couple(0), None))["cycle"].item() for _ in range(20)]
    assert values[-1] < 0.9 * values[0]


def test_out_of_memory_names_the_settings_to_lower_and_other_errors_pass(tmp_path, monkeypatch):
    run = stage_run(recipe(tmp_path, [stage()]))
    wrong = Unpaired(("day", "night"), *torch.zeros(4, 1, 4, 32, 32))
    with pytest.raises(RuntimeError, match="channels"):
        run.step(0, Batch(wrong, None))

    def losses(self, step, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StageRun, "losses", losses)
    with pytest.raises(TrainingError, match=r"'fine' at image_size \[32, 32\]: lower batch_size"):
        run.step(0, Batch(couple(0), None))


def test_two_processes_have_the_gradient_of_one_with_both_samples(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = tmp_path / "gradients.pt"
    arguments = (port, str(output), str(tmp_path))
    torch.multiprocessing.start_processes(one_of_two_processes, arguments, 2, start_method="fork")
    averaged = torch.load(output, weights_only=True)
    alone = gradients_of(stage_run(recipe(tmp_path, [stage()])), Batch(couple(0, 1), None))
    assert len(averaged) == len(alone) > 0
    rounding = 1e-4 * max(g.abs().max() for g in alone).item()
    for mean, both in zip(averaged, alone, strict=True):
        torch.testing.assert_close(mean, both, rtol=1e-3, atol=rounding)


# Shares of the gradient


def test_shares_of_the_gradient_are_those_of_the_weighted_terms():
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    terms = {"a": x.square().sum(), "b": x.sum(), "c": torch.tensor(1.0)}
    norms = gradient_norms(terms, [x])
    assert norms == pytest.approx({"a": 10.0, "b": 2**0.5, "c": 0.0})
    assert x.grad is None
    shares = gradient_shares(norms, {"a": 1.0, "b": 10.0, "c": 5.0})
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["b"] / shares["a"] == pytest.approx(2**0.5)
    assert gradient_shares({"a": 0.0}, {"a": 1.0}) == {"a": 0.0}


def test_measuring_shares_changes_no_weight(tmp_path):
    weights = []
    for every in (0, 1):
        run = stage_run(recipe(tmp_path, [stage()], gradients_every=every))
        for step in range(3):
            run.step(step, Batch(couple(step), None))
        weights.append(run.networks.state())
        assert set(run.shares) == (set(PAPER) | {"discriminator"} if every else set())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    generators = [share for name, share in run.shares.items() if name != "discriminator"]
    assert sum(generators) == pytest.approx(1.0) and run.shares["discriminator"] == 1.0


def test_a_loss_without_gradient_is_warned_of_once(caplog):
    watch = GradientWatch("fine")
    for step in range(0, 3 * PATIENCE, 20):
        watch.check(step, {"triplet_fcl": 0.0, "gan": 1.0, "sam": float(step == PATIENCE - 20)})
    messages = [record.getMessage() for record in caplog.records]
    assert [text.split("'")[1] for text in messages] == ["triplet_fcl", "sam"]
    assert "no gradient for 100 steps" in messages[0] and "triplets.form" in messages[0]
