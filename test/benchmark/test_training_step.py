# SPDX-License-Identifier: Apache-2.0
"""A training step against the straightforward form of the same losses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.performance import training_step
from benchmark.performance.training_step import FINE, Form
from disam_ros.models.network_config import NetworkConfig
from training.disam.networks import create_networks
from training.disam.sampling import Batch, Unpaired
from training.disam.stage import StageRun
from training.disam.steps import discriminator_terms, weights_at
from training.engine.networks import total
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = NetworkConfig(2, 1, 1, (32, 32))
MOBILE = NetworkConfig(28, image_size=(32, 32), encoder="mobile")
PLAIN, OURS = Form("plain", TINY, 1, naive=True), Form("ours", TINY, 2)
FRESH = {
    "stages": [{"name": "fine", "ramp": 0.0, "hard_from": 0.0, "losses": FINE}],
    "triplets": {"group": 4, "cached": False},
}


@pytest.fixture
def training(monkeypatch):
    """A stage with four random networks in float64, and a batch with three further negatives."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # stay in float64
    generator = torch.Generator().manual_seed(1)
    networks = create_networks(TINY, ("day", "night"), True, seed=0)
    for _, module in networks.modules():
        for parameter in module.double().parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data += 0.1 * noise
    images = torch.rand(8, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    batch = Unpaired(("day", "night"), *images.split((1, 1, 3, 3)))
    return StageRun(parse_config(FRESH), 0, networks, torch.device("cpu")), batch


def assert_equal(values, expected):
    """Relative 1e-6; biases ahead of a normalization have gradients that are rounding only."""
    rounding = 1e-12 * max(x.abs().max().item() for x in expected)
    for a, b in zip(values, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=rounding)


def test_generators_have_the_losses_and_gradients_of_the_straightforward_form(training):
    run, batch = training
    ours, _ = run.losses(0, Batch(batch, None))
    plain, _ = training_step.generator_terms(run.networks, batch)
    assert set(ours) == set(plain) == set(FINE)
    for name, term in ours.items():
        assert term.item() == pytest.approx(plain[name].item(), rel=1e-6) and term.item() > 0
        assert_equal(*(gradients(t[name], run.networks.generators()) for t in (ours, plain)))
    weights = weights_at(run.stage, 0)
    assert weights == FINE
    assert_equal(*(gradients(total(t, weights), run.networks.generators()) for t in (ours, plain)))


def test_critics_have_the_loss_and_gradient_of_the_straightforward_form(training):
    run, batch = training
    _, ways = run.losses(0, Batch(batch, None))
    random = np.random.default_rng(0)
    ours = discriminator_terms(run.networks, ways, run.pool, random)["discriminator"]
    _, fakes = training_step.generator_terms(run.networks, batch)
    plain = training_step.critic_term(run.networks, batch, fakes)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    assert_equal(*(gradients(x, run.networks.critics()) for x in (ours, plain)))


def gradients(loss, parameters):
    result = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g for g, p in zip(result, parameters, strict=True)
    ]


def test_every_form_makes_a_step():
    for form in (*training_step.FORMS, training_step.CUDA_FORM):
        small = replace(form, network=MOBILE if form.contrastive else TINY, batch=2 - form.naive)
        training_step.prepare(small, torch.device("cpu"))()


def test_rows_have_positive_figures(monkeypatch):
    memory = iter((training_step.fresh(training_step.peak_memory, PLAIN, "cpu"), 2.0))
    monkeypatch.setattr(training_step, "fresh", lambda *_: next(memory))
    results = training_step.measure((PLAIN, OURS), repeats=1)
    assert [row["form"] for row in results["rows"]] == ["plain", "ours"]
    for row in results["rows"]:
        assert min(row["images_per_s"], row["ratio"], row["memory_mib"]) > 0
    assert results["rows"][0]["ratio"] == 1
    json.dumps(results)
