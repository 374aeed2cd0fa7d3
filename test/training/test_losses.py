# SPDX-License-Identifier: Apache-2.0
"""DISAM's losses against an independent float64 form of the paper's equations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import paper
from support.paper import Step
from torch import nn
from torch.autograd import gradcheck

from training.disam import losses, steps
from training.disam.networks import NegativeBank
from training.disam.sampling import Unpaired
from training.disam.scales import Scales
from training.engine.networks import Networks
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("fcl", "fcl_cosine", "triplet_fcl", "sam", "triplet_sam")
FORMS = {  # m and α at which the triplets of features and of maps are neither 0 nor 1
    "released": {"fcl": (1.0, 0.5), "sam": (0.1, 3.0)},
    "paper": {"fcl": (5.0, 0.1), "sam": (1.0, 0.5)},
    "relative": {"fcl": (2.0, 0.5), "sam": (2.0, 0.5)},
}
HARD = pytest.mark.parametrize("hard", [False, True], ids=["one negative", "hardest of three"])
FORM = pytest.mark.parametrize("form", list(FORMS))


class Recorded(nn.Module):
    """A smooth layer that keeps what it gave, in the order of its calls."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.outputs = layer.double(), []

    def forward(self, x):
        self.outputs.append(torch.tanh(self.layer(x)) + 0.3)
        return self.outputs[-1]


@pytest.fixture
def setting(monkeypatch):
    """Networks of two domains small enough for loops, a batch, two further negatives of each."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # stay in float64
    monkeypatch.setattr(steps, "margin_of", lambda kind, triplets, _: FORMS[triplets.form][kind])
    torch.manual_seed(3)
    networks = Networks(
        encoders={d: Recorded(nn.Conv2d(3, 4, 2, stride=2)) for d in "ab"},
        decoders={d: Recorded(nn.ConvTranspose2d(4, 3, 2, stride=2)) for d in "ab"},
    )
    a, b = 3 * torch.randn(2, 1, 3, 6, 8, dtype=torch.float64)
    more = {d: 0.3 + 0.3 * torch.randn(2, 4, 3, 4, dtype=torch.float64) for d in "ab"}
    empty = torch.zeros(0, 3, 6, 8, dtype=torch.float64)
    return SimpleNamespace(
        networks=networks, batch=Unpaired(("a", "b"), a, b, empty, empty), more=more
    )


def measured(setting, form, hard, negatives="translated"):
    """Terms by name, and the features of the step for the reference."""
    stage = {"name": "fine", "hard_from": 0.0, "losses": dict.fromkeys(NAMES, 1)}
    config = parse_config({"stages": [stage], "triplets": {"form": form, "negatives": negatives}})
    bank = NegativeBank(2)
    for domain, z in setting.more.items():
        bank.push(domain, losses.comparable(z, form))
    encoders = setting.networks.encoders
    for encoder in encoders.values():
        encoder.outputs.clear()
    terms, _ = steps.generator_terms(
        setting.networks, setting.batch, config.stages[0], config.triplets, bank, hard, Scales()
    )
    (z_a, again_a), (again_b, z_b) = encoders["a"].outputs, encoders["b"].outputs
    arrays = [z.detach().numpy()[0] for z in (z_a, z_b, again_b, again_a)]
    more = tuple(list(setting.more[d].numpy()) if hard else [] for d in "ba")
    return terms, Step((arrays[0], arrays[1]), (arrays[2], arrays[3]), more)


@HARD
@FORM
@pytest.mark.parametrize("negatives", ["translated", "real"])
def test_every_loss_has_the_value_of_the_papers_equations(setting, form, hard, negatives):
    terms, step = measured(setting, form, hard, negatives)
    expected = paper.terms(step, form, list(FORMS[form].values()), negatives=negatives)
    for name in NAMES:
        assert 1e-3 < expected[name] < 50, name
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-6), name
    for name in ("triplet_fcl", "triplet_sam"):
        assert 0.05 < expected[name] < 1.95, f"{name}: both hinges are at an end"


@HARD
@FORM
def test_every_loss_has_the_gradient_of_the_papers_equations(setting, form, hard):
    """Which sides have none, too: the reference holds them still."""
    terms, held = measured(setting, form, hard)
    parameters = setting.networks.generators()
    random = torch.Generator().manual_seed(5)
    way = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in parameters]
    slopes = {}
    for name in NAMES:
        gradients = torch.autograd.grad(
            terms[name], parameters, retain_graph=True, allow_unused=True
        )
        slopes[name] = sum(
            (g * v).sum().item() for g, v in zip(gradients, way, strict=True) if g is not None
        )
    ends = []
    for sign in (1e-4, -1e-4):
        with torch.no_grad():
            for p, v in zip(parameters, way, strict=True):
                p += sign * v
        _, step = measured(setting, form, hard)
        ends.append(paper.terms(step, form, list(FORMS[form].values()), held))
        with torch.no_grad():
            for p, v in zip(parameters, way, strict=True):
                p -= sign * v
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


def test_cycle_loss_equals_its_loop():
    a, b = np.random.default_rng(1).normal(size=(2, 2, 3, 4, 4))
    value = losses.cycle_loss(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert value == pytest.approx(paper.cycle(a, b), abs=1e-14)


@pytest.mark.parametrize(
    ("positive", "negative", "alpha", "expected"),
    [
        (0.0, 2.0, 2.0, 1 - 2 / 5),  # the margin is m where the pair agrees,
        (100.0, 40.0, 2.0, 1 - 40 / 100),  # nothing where it is far apart,
        (10.0, 1.0, 0.0, 1 - 1 / 15),  # the same everywhere with α = 0
        (0.0, 5.0, 2.0, 0.0),  # and beyond it there is no loss
    ],
)
def test_the_margin_adapts_to_the_distance_of_the_pair(positive, negative, alpha, expected):
    value = losses.adaptive_triplet(torch.tensor([positive]), torch.tensor([negative]), 5.0, alpha)
    assert value.item() == pytest.approx(expected)


# True pairs


def test_contrastive_equals_a_loop_over_sure_negatives():
    random = np.random.default_rng(1)
    similarities, different = random.uniform(-1, 1, (5, 5)), random.random((5, 5)) < 0.7
    np.fill_diagonal(different, False)
    scores = torch.from_numpy(similarities).requires_grad_()
    value = losses.contrastive(scores, torch.from_numpy(different), 0.1)
    expected = paper.contrastive(similarities, different, 0.1)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    value.backward()
    doubtful = torch.from_numpy(~(different | np.eye(5, dtype=bool)))
    assert scores.grad.isfinite().all() and not scores.grad[doubtful].any()


def test_distillation_equals_a_loop_and_its_teacher_has_no_gradient():
    random = torch.Generator().manual_seed(0)
    z, teacher = torch.randn(2, 2, 3, 2, 4, generator=random, dtype=torch.float64)
    z, teacher = z.requires_grad_(), teacher.requires_grad_()
    cells = [
        1 - (a @ b / (a.norm() * b.norm())).item()
        for a, b in zip(*(x.movedim(1, -1).reshape(-1, 3) for x in (z, teacher)), strict=True)
    ]
    value = losses.distillation(z, teacher)
    assert value.item() == pytest.approx(np.mean(cells), abs=1e-12)
    value.backward()
    assert z.grad.norm() > 0 and teacher.grad is None


def test_the_gradient_of_contrastive_is_right():
    random = torch.Generator().manual_seed(3)
    gaps = 0.5 + torch.rand(4, 4, generator=random, dtype=torch.float64).requires_grad_()
    different = ~torch.eye(4, dtype=torch.bool)
    assert gradcheck(lambda x: losses.contrastive(x, different, 0.1), (gaps,))


# The relative form


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_relative_losses_do_not_depend_on_the_scale_of_the_features(setting, monkeypatch, factor):
    before, _ = measured(setting, "relative", False)
    original = losses.comparable
    monkeypatch.setattr(losses, "comparable", lambda z, form: original(factor * z, form))
    after, _ = measured(setting, "relative", False)
    for name in NAMES:
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-6), name


def test_scales_follow_the_features_forget_slowly_and_are_saved():
    scales = Scales()
    assert scales.update("z", torch.tensor([])).item() == 1.0
    for value, mean in ((2.0, 2.0), (4.0, 3.0), (6.0, 4.0)):  # at first all steps weigh the same
        assert scales.update("z", torch.tensor([value])).item() == pytest.approx(mean)
    for _ in range(1000):
        last = scales.update("z", torch.tensor([10.0], requires_grad=True))
    assert last.item() == pytest.approx(10.0, abs=0.01) and not last.requires_grad
    again = Scales()
    again.load(scales.state(), torch.device("cpu"))
    assert again.update("z", torch.tensor([3.0])) == scales.update("z", torch.tensor([3.0]))
