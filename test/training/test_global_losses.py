# SPDX-License-Identifier: Apache-2.0
"""Losses of global descriptors: each equals a plain loop in float64, and keeps its laws."""

import math

import pytest
import torch
from torch.nn import functional

from training.errors import TrainingError
from training.global_descriptors import library_losses, losses
from training.global_descriptors.losses import INFLUENCES, Influence

NEAR, FAR, SIZE = 3, 4, 6
KINDS = pytest.mark.parametrize("kind", INFLUENCES)


def descriptors(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, SIZE, generator=random, dtype=torch.float64)
    return functional.normalize(values, dim=-1).requires_grad_()


def positions_to_metres(count, tuples=2, seed=1, spread=20.0):
    random = torch.Generator().manual_seed(seed)
    at = spread * torch.randn(tuples, count, 2, generator=random, dtype=torch.float64)
    return torch.cdist(at, at)


def numbers(vector):
    return vector.detach().tolist()


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def gap(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def g_near(d, influence):
    if influence.kind == "sigmoid":
        return 1 / (1 + math.exp(influence.gamma * (d - influence.tau)))
    if influence.kind == "linear":
        return max(0.0, 1 - d / (2 * influence.tau))
    return 1 - math.tanh(math.atanh(0.5) * d / influence.tau)


# Influence


@KINDS
def test_near_influence_falls_far_influence_grows_and_both_are_one_half_at_tau(kind):
    influence = Influence(kind, 0.8, 15.0)
    d = torch.linspace(0, 80, 400, dtype=torch.float64)
    near, far = influence.near(d), influence.far(d)
    assert (near.diff() <= 0).all() and (far.diff() >= 0).all()
    assert near[0] > 0.99 and near[-1] < 0.01
    assert near.min() >= 0 and near.max() <= 1
    torch.testing.assert_close(near + far, torch.ones_like(d))
    half = influence.near(torch.tensor([15.0], dtype=torch.float64))
    assert half.item() == pytest.approx(0.5)
    expected = [g_near(v, influence) for v in numbers(d)]
    torch.testing.assert_close(near, torch.tensor(expected, dtype=torch.float64))


@KINDS
def test_places_without_a_common_frame_are_entirely_far(kind):
    endless = torch.tensor([torch.inf])
    assert Influence(kind).near(endless) == 0 and Influence(kind).far(endless) == 1


def test_the_printed_equation_4_would_break_the_definition():
    """The printed g⁺ = 1/(1 + exp(γ(τ − d))) grows with the distance: it is our g⁻."""
    influence, d = Influence(), torch.tensor([1.0, 30.0])
    printed = 1 / (1 + torch.exp(0.8 * (15.0 - d)))
    torch.testing.assert_close(printed, influence.far(d))


# Soft contrastive


@KINDS
def test_the_papers_soft_contrastive_loss_equals_a_plain_loop(kind):
    influence, eta, nu, mu = Influence(kind, 0.5, 15.0), 2.0, 5.0, 1.0
    tuples, metres = descriptors(2, 5), positions_to_metres(5)
    expected = []
    for f, d in zip(tuples, metres, strict=True):
        near = far = 0.0
        for i in range(1, 5):
            s = gap(numbers(f[i]), numbers(f[0]))
            g = g_near(float(d[0, i]), influence)
            near += math.exp(eta * g * s - mu)
            far += math.exp(mu - nu * (1 - g) * s)
        expected.append(math.log(1 + near) / eta + math.log(1 + far) / nu)
    result = losses.soft_contrastive_paper(tuples, metres, influence, eta, nu, mu)
    assert result.item() == pytest.approx(sum(expected) / 2, rel=1e-12)


@KINDS
def test_the_released_soft_contrastive_loss_equals_a_plain_loop(kind):
    influence, eta, nu = Influence(kind, 0.5, 15.0), 2.0, 50.0
    tuples, metres = descriptors(2, 5), positions_to_metres(5)
    expected = []
    for f, d in zip(tuples, metres, strict=True):
        for i in range(5):
            near = far = 0.0
            for j in range(5):
                if i == j:
                    continue
                s = max(0.0, dot(numbers(f[i]), numbers(f[j])))
                g = g_near(float(d[i, j]), influence)
                near += math.exp(-eta * (g * s - 1))
                far += math.exp(nu * ((1 - g) * s - 1))
            expected.append(math.log(1 + near) / eta + math.log(1 + far) / nu)
    result = losses.soft_contrastive_released(tuples, metres, influence, eta, nu)
    assert result.item() == pytest.approx(sum(expected) / 10, rel=1e-12)
    result = losses.soft_contrastive_released(tuples, metres, influence, eta, nu, "first")
    assert result.item() == pytest.approx((expected[0] + expected[5]) / 2, rel=1e-12)


SOFT = {
    "first": lambda t, m: losses.soft_contrastive_released(
        t, m, Influence(), 2.0, 50.0, anchors="first"
    ),
    "paper": lambda t, m: losses.soft_contrastive_paper(t, m, Influence(), 2.0, 5.0, 1.0),
    "released": lambda t, m: losses.soft_contrastive_released(t, m, Influence(), 2.0, 50.0),
}


@pytest.mark.parametrize("form", SOFT)
@pytest.mark.parametrize(("metres", "pulls"), [(1.0, True), (200.0, False)])
def test_soft_contrastive_pulls_near_images_together_and_pushes_far_ones_apart(form, metres, pulls):
    a = functional.normalize(torch.tensor([1.0, 0.2, 0.0]), dim=0)
    b = functional.normalize(torch.tensor([1.0, -0.1, 0.1]), dim=0).requires_grad_()
    d = torch.full((1, 2, 2), metres)
    SOFT[form](torch.stack([a, b])[None], d).backward()
    towards = -(b.grad @ (a - b)).item()  # does a step down the gradient bring b closer to a?
    assert towards > 0 if pulls else towards < 0


def test_far_images_add_a_constant_to_the_released_positive_sum_that_damps_it():
    """e² each, whose gradient is nothing; the known trap of the released form."""
    influence = Influence()
    far = torch.full((1, 2, 2), 60.0, dtype=torch.float64)
    apart = torch.eye(2, dtype=torch.float64)[None].clone().requires_grad_()
    value = losses.soft_contrastive_released(apart, far, influence, 2.0, 50.0)
    assert value.item() == pytest.approx(math.log(1 + math.e**2) / 2, rel=1e-9)
    value.backward()
    assert apart.grad.abs().max() < 1e-9


@pytest.mark.parametrize("form", SOFT)
def test_soft_contrastive_has_finite_gradients_for_equal_images_and_endless_distances(form):
    same = descriptors(1, 1).detach().expand(1, 3, SIZE).clone().requires_grad_()
    metres = torch.full((1, 3, 3), torch.inf, dtype=torch.float64)
    metres[0].fill_diagonal_(0.0)
    SOFT[form](same, metres).backward()
    assert same.grad.isfinite().all()


# Baselines


def test_multi_similarity_equals_a_plain_loop():
    tuples, alpha, beta, base = descriptors(2, 1 + NEAR + FAR), 2.0, 50.0, 0.5
    expected = 0.0
    for f in tuples:
        anchor, *others = (numbers(v) for v in f)
        near = sum(math.exp(-alpha * (dot(anchor, o) - base)) for o in others[:NEAR])
        far = sum(math.exp(beta * (dot(anchor, o) - base)) for o in others[NEAR:])
        expected += (math.log(1 + near) / alpha + math.log(1 + far) / beta) / 2
    result = library_losses.multi_similarity(tuples, NEAR, alpha, beta, base)
    assert result.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_triplet_loss_with_swap_equals_a_plain_loop_over_the_hardest(smooth):
    tuples, margin = descriptors(2, 1 + NEAR + FAR), 0.4
    expected = []
    for f in tuples:
        anchor, *others = (numbers(v) for v in f)
        near = sorted(others[:NEAR], key=lambda o: -gap(anchor, o))[:1]
        far = sorted(others[NEAR:], key=lambda o: gap(anchor, o))[:2]
        for p in near:
            for n in far:
                x = gap(anchor, p) - min(gap(anchor, n), gap(p, n)) + margin
                expected.append(math.log1p(math.exp(x)) if smooth else max(0.0, x))
    indices = losses.hardest_triplets(tuples, NEAR, 1, 2)
    result = library_losses.triplet(tuples, indices, margin, smooth)
    assert result.item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)


def test_zero_means_all_triplets_of_a_tuple():
    anchors, near, far = losses.hardest_triplets(descriptors(2, 1 + NEAR + FAR), NEAR, 0, 0)
    result = set(zip(anchors.tolist(), near.tolist(), far.tolist(), strict=True))
    size = 1 + NEAR + FAR
    assert result == {
        (size * t, size * t + p, size * t + n)
        for t in range(2)
        for p in range(1, 1 + NEAR)
        for n in range(1 + NEAR, size)
    }


@pytest.mark.parametrize("lazy", [True, False])
def test_the_quadruplet_loss_equals_a_plain_loop(lazy):
    tuples = descriptors(3, 1 + NEAR + FAR)
    expected = 0.0
    for f in tuples:
        anchor, *others = (numbers(v) for v in f)
        positive = min(gap(anchor, o) for o in others[:NEAR])
        *far, last = others[NEAR:]
        for margin, origin in ((0.5, anchor), (0.2, last)):
            terms = [max(0.0, margin + positive - gap(origin, o)) for o in far]
            expected += (max(terms) if lazy else sum(terms) / len(terms)) / 3
    result = losses.quadruplet(tuples, NEAR, 0.5, 0.2, lazy)
    assert result.item() == pytest.approx(expected, rel=1e-9)


@KINDS
def test_the_plain_sum_equals_a_plain_loop(kind):
    influence = Influence(kind, 0.5, 15.0)
    tuples, metres = descriptors(2, 5), positions_to_metres(5)
    expected = 0.0
    for f, d in zip(tuples, metres, strict=True):
        for i in range(1, 5):
            near = g_near(float(d[0, i]), influence)
            expected += (2 * near - 1) * gap(numbers(f[i]), numbers(f[0])) / 8
    result = losses.soft_sum(tuples, metres, influence)
    assert result.item() == pytest.approx(expected, rel=1e-9)


def test_the_log_ratio_loss_equals_a_plain_loop_over_pairs():
    tuples, metres = descriptors(2, 5), positions_to_metres(5)
    metres[0, 0, 4] = torch.inf  # of another town
    expected = []
    for f, d in zip(tuples, metres, strict=True):
        anchor, *others = (numbers(v) for v in f)
        away = [min(max(float(x), 1.0), 40.0) for x in d[0, 1:]]
        for i in range(4):
            for j in range(i + 1, 4):
                of_descriptors = (gap(anchor, others[i]) / gap(anchor, others[j])) ** 2
                expected.append(math.log(of_descriptors / (away[i] / away[j]) ** 2) ** 2)
    result = losses.log_ratio(tuples, metres, 40.0)
    assert result.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)


def test_descriptors_as_far_apart_as_their_places_have_no_log_ratio_loss():
    metres = positions_to_metres(5, 1) + 1.0
    lengths = metres[:, 0, 1:] / metres.max()
    tuples = torch.cat([torch.zeros(1, 1, 4), torch.diag_embed(lengths)], 1)
    assert losses.log_ratio(tuples, metres, 1000.0).item() < 1e-20


def test_distance_regression_equals_a_plain_loop():
    tuples, metres = descriptors(2, 5), positions_to_metres(5)
    metres[1, 0, 1] = torch.inf
    expected = 0.0
    for f, d in zip(tuples, metres, strict=True):
        for i in range(1, 5):
            wanted = math.sqrt(2) * min(1.0, float(d[0, i]) / 40.0)
            error = abs(gap(numbers(f[i]), numbers(f[0])) - wanted)
            expected += (error**2 / 2 if error < 0.2 else 0.2 * (error - 0.1)) / 8
    result = losses.distance_regression(tuples, metres, 40.0, 0.2)
    assert result.item() == pytest.approx(expected, rel=1e-9)


def test_hallucination_does_not_depend_on_the_features_scale_and_teaches_the_imitation_alone():
    imitated, truth = (
        torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(k)) for k in (0, 1)
    )
    imitated.requires_grad_(), truth.requires_grad_()
    result = losses.hallucination_loss(imitated, truth)
    result.backward()
    assert truth.grad is None and imitated.grad is not None
    scaled = losses.hallucination_loss(7 * imitated, 7 * truth)
    torch.testing.assert_close(scaled, result)
    assert losses.hallucination_loss(truth, truth) == 0


def test_baselines_name_the_library_they_lack(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(TrainingError, match=r"pip install 'disam_ros\[train\]'"):
        library_losses.multi_similarity(descriptors(1, 4), 2, 2.0, 50.0, 0.5)


# Local triplet


def test_the_local_triplet_loss_equals_a_plain_loop():
    a, b = descriptors(6, seed=2), descriptors(6, seed=3)
    metres = positions_to_metres(6, 1)[0] + 2.0
    total, pairs = 0.0, 0
    for way, (x, y) in enumerate(((a, b), (b, a))):
        for i in range(6):
            positive = 2 - 2 * dot(numbers(x[i]), numbers(y[i]))
            for j in range(6):
                d = float(metres[i, j] if way == 0 else metres[j, i])
                if i == j or not 5 < d <= 50:
                    continue
                pairs += 1 - way
                negative = 2 - 2 * dot(numbers(x[i]), numbers(y[j]))
                weight = 1 - math.exp(-(d**2) / 200)
                total += weight * math.log(1 + math.exp(10 * (positive - negative)))
    result = losses.local_triplet(a, b, metres, 10.0, 10.0, 5.0, 50.0)
    assert pairs > 0
    assert result.item() == pytest.approx(0.5 * total / (pairs + 1e-3), rel=1e-12)


def test_the_local_triplet_loss_takes_places_of_other_routes_where_no_distance_is_too_far():
    a, b = descriptors(2, seed=2), descriptors(2, seed=3)
    metres = torch.tensor([[0.0, torch.inf], [torch.inf, 0.0]], dtype=torch.float64)
    value = losses.local_triplet(a, b, metres, 10.0, 10.0, 5.0, math.inf)
    value.backward()
    assert value > 0 and a.grad.isfinite().all() and a.grad.any()
    assert losses.local_triplet(a, b, metres, 10.0, 10.0, 5.0, 1e5) == 0


def test_the_local_triplet_loss_weighs_a_far_neighbour_more_than_a_near_one():
    a, b = descriptors(2, seed=2), descriptors(2, seed=3)

    def at(d):
        metres = torch.tensor([[0.0, d], [d, 0.0]], dtype=torch.float64)
        return losses.local_triplet(a, b, metres, 10.0, 10.0, 5.0, 50.0).item()

    assert 0 < at(6.0) < at(12.0) < at(40.0)
    assert at(5.0) == at(50.1) == 0.0  # neither surely another place nor within the prior's reach


def test_the_local_triplet_loss_does_not_overflow_where_the_naive_form_does():
    a = torch.eye(2, requires_grad=True)
    metres = torch.tensor([[0.0, 20.0], [20.0, 0.0]])
    value = losses.local_triplet(a, a.detach().flip(0), metres, 1000.0, 10.0, 5.0, 50.0)
    value.backward()
    assert value.isfinite() and a.grad.isfinite().all()


def test_the_local_triplet_loss_of_a_batch_without_negatives_is_zero_with_a_gradient():
    a, b = descriptors(3, seed=2), descriptors(3, seed=3)
    value = losses.local_triplet(a, b, torch.zeros(3, 3), 10.0, 10.0, 5.0, 50.0)
    value.backward()
    assert value == 0 and not a.grad.any()


# Depth


def test_depth_loss_is_the_mean_gap_over_known_pixels_and_beyond_the_limit_counts_as_the_limit():
    truth = torch.tensor([[0.2, torch.nan], [torch.inf, 3.0]]).view(1, 1, 2, 2)
    predicted = torch.tensor([[0.3, 0.9], [0.6, 0.9]]).view(1, 1, 2, 2).requires_grad_()
    value = losses.depth_loss(predicted, truth)
    assert value.item() == pytest.approx((0.1 + 0.4 + 0.1) / 3, rel=1e-5)
    value.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[0, 0, 0, 1] == 0


def test_depth_loss_without_any_known_pixel_is_zero_and_moves_nothing():
    predicted = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    value = losses.depth_loss(predicted, torch.full((1, 1, 2, 2), torch.nan))
    value.backward()
    assert value == 0 and not predicted.grad.any()
