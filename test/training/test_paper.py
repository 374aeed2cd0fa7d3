# SPDX-License-Identifier: Apache-2.0
"""The losses of a training step against an independent float64 form of the paper's equations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import paper
from support.paper import Step
from torch import nn

from disam_ros.models.similarity import activation_map
from training.disam import losses
from training.disam.networks import NegativeBank
from training.disam.sampling import Unpaired
from training.disam.scales import Scales
from training.disam.steps import generator_terms, margin_of
from training.engine.networks import Networks
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("fcl", "fcl_cosine", "triplet_fcl", "sam", "triplet_sam")
FORMS = {  # margins at which the triplets are neither 0 nor 1
    "released": {"margin_fcl": 1.0, "alpha_fcl": 0.5, "margin_sam": 0.1, "alpha_sam": 3.0},
    "paper": {"margin_fcl": 5.0, "alpha_fcl": 0.1, "margin_sam": 1.0, "alpha_sam": 0.5},
    "relative": {"margin": 2.0, "alpha": 0.5},
}
HARD = pytest.mark.parametrize("hard", [False, True], ids=["one negative", "hardest of three"])
FORM = pytest.mark.parametrize("form", list(FORMS))


class Recorded(nn.Module):
    """A smooth layer that keeps what it gave, in the order of its calls."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.given = layer.double(), []

    def forward(self, x):
        self.given.append(torch.tanh(self.layer(x)) + 0.3)
        return self.given[-1]


@pytest.fixture
def setting(monkeypatch):
    """Networks of two domains small enough for loops, a batch, two further negatives of each."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # stay in float64
    torch.manual_seed(3)
    networks = Networks(
        encoders={d: Recorded(nn.Conv2d(3, 4, 2, stride=2)) for d in "ab"},
        decoders={d: Recorded(nn.ConvTranspose2d(4, 3, 2, stride=2)) for d in "ab"},
    )
    a, b = 3 * torch.randn(2, 1, 3, 6, 8, dtype=torch.float64)
    more = {d: 0.3 + 0.3 * torch.randn(2, 4, 3, 4, dtype=torch.float64) for d in "ab"}
    empty = torch.zeros(0, 3, 6, 8, dtype=torch.float64)
    batch = Unpaired(("a", "b"), a, b, empty, empty)
    return SimpleNamespace(networks=networks, batch=batch, more=more)


def measured(setting, form, hard, negatives="translated"):
    """Terms by name, and the features of the step for the reference."""
    stage = {"name": "fine", "hard_from": 0.0, "losses": dict.fromkeys(NAMES, 1)}
    triplets = {"form": form, "negatives": negatives, **FORMS[form]}
    config = parse_config({"stages": [stage], "triplets": triplets})
    bank = NegativeBank(2)
    for domain, z in setting.more.items():
        bank.push(domain, losses.comparable(z, form))
    encoders = setting.networks.encoders
    for encoder in encoders.values():
        encoder.given.clear()
    given = setting.networks, setting.batch, config.stages[0], config.triplets, bank, hard
    terms, _ = generator_terms(*given, Scales())
    (z_a, again_a), (again_b, z_b) = encoders["a"].given, encoders["b"].given
    arrays = [z.detach().numpy()[0] for z in (z_a, z_b, again_b, again_a)]
    more = tuple(list(setting.more[d].numpy()) if hard else [] for d in "ba")
    margins = [margin_of(kind, config.triplets, True) for kind in ("fcl", "sam")]
    return terms, Step((arrays[0], arrays[1]), (arrays[2], arrays[3]), more), margins


@HARD
@FORM
@pytest.mark.parametrize("negatives", ["translated", "real"])
def test_every_loss_has_the_value_of_the_papers_equations(setting, form, hard, negatives):
    terms, step, margins = measured(setting, form, hard, negatives)
    expected = paper.terms(step, form, margins, negatives=negatives)
    for name in NAMES:
        assert 1e-3 < expected[name] < 50, name
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-6), name
    for name in ("triplet_fcl", "triplet_sam"):
        assert 0.05 < expected[name] < 1.95, f"{name}: both hinges are at an end"


@HARD
@FORM
def test_every_loss_has_the_gradient_of_the_papers_equations(setting, form, hard):
    terms, held, margins = measured(setting, form, hard)
    parameters = setting.networks.generators()
    random = torch.Generator().manual_seed(5)
    way = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in parameters]
    slopes = {}
    for name in NAMES:
        result = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
        slopes[name] = sum(
            (g * v).sum().item() for g, v in zip(result, way, strict=True) if g is not None
        )
    ends = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for p, v in zip(parameters, way, strict=True):
                p += sign * 1e-4 * v
        _, step, _ = measured(setting, form, hard)
        ends.append(paper.terms(step, form, margins, held))
        with torch.no_grad():
            for p, v in zip(parameters, way, strict=True):
                p -= sign * 1e-4 * v
    for name in NAMES:
        expected = (ends[0][name] - ends[1][name]) / 2e-4
        assert slopes[name] == pytest.approx(expected, rel=2e-3, abs=1e-5), name
        assert abs(expected) > 1e-4, name


def test_gan_loss_is_the_released_one_of_both_branches_side_by_side():
    random = np.random.default_rng(0)
    heads = [random.normal(size=(2, 1, 3 + k % 4, 4)) for k in range(8)]
    tensors = [torch.from_numpy(head) for head in heads]
    for target in (0.0, 1.0):
        expected = paper.gan(heads[:4], heads[4:], target)
        assert losses.gan_loss(tensors, target).item() == pytest.approx(expected, abs=1e-14)


def test_contrastive_and_cycle_equal_their_loops():
    random = np.random.default_rng(1)
    similarities, different = random.uniform(-1, 1, (5, 5)), random.random((5, 5)) < 0.7
    np.fill_diagonal(different, False)
    given = torch.from_numpy(similarities), torch.from_numpy(different), 0.1
    expected = paper.contrastive(similarities, different, 0.1)
    assert losses.contrastive(*given).item() == pytest.approx(expected, abs=1e-12)
    a, b = random.normal(size=(2, 2, 3, 4, 4))
    result = losses.cycle_loss(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert result == pytest.approx(paper.cycle(a, b), abs=1e-14)


def test_activation_maps_equal_the_slope_of_the_similarity():
    random = np.random.default_rng(2)
    z, other = random.normal(size=(2, 4, 3, 5))
    result = activation_map(torch.from_numpy(z), torch.from_numpy(other)).numpy()
    np.testing.assert_allclose(result, paper.activation_map(z, other), atol=1e-8)


# The relative form


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_relative_losses_do_not_depend_on_the_scale_of_the_features(setting, monkeypatch, factor):
    before, _, _ = measured(setting, "relative", False)
    original = losses.comparable
    monkeypatch.setattr(losses, "comparable", lambda z, form: original(factor * z, form))
    after, _, _ = measured(setting, "relative", False)
    for name in NAMES:
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-6), name


def test_a_negative_pair_is_at_distance_one_on_average():
    scales, random = Scales(), torch.Generator().manual_seed(0)
    kept = []
    for _ in range(50):
        distances = 7.0 + torch.rand(8, generator=random)
        kept.append((distances / scales.update("z", distances)).mean())
    assert torch.stack(kept).mean().item() == pytest.approx(1.0, abs=0.01)


def test_scales_follow_the_features_forget_slowly_and_are_saved():
    scales = Scales()
    assert scales.update("z", torch.tensor([])).item() == 1.0
    for value, mean in ((2.0, 2.0), (4.0, 3.0), (6.0, 4.0)):  # at first all steps weigh the same
        assert scales.update("z", torch.tensor([value])).item() == pytest.approx(mean)
    for _ in range(1000):
        last = scales.update("z", torch.tensor([10.0]))
    assert last.item() == pytest.approx(10.0, abs=0.01)
    again = Scales()
    again.load(scales.state(), torch.device("cpu"))
    assert again.update("z", torch.tensor([3.0])) == scales.update("z", torch.tensor([3.0]))
    again.load({}, torch.device("cpu"))  # a checkpoint of an earlier version
    assert again.state() == {}


def test_the_scale_has_no_gradient():
    distances = torch.ones(3, requires_grad=True)
    assert not Scales().update("z", distances).requires_grad
