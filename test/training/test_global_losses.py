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
        return max(0.0, 1 - d / influence.tau)
    return 1 - math.tanh(d / influence.tau)


# Soft contrastive


@KINDS
def test_near_influence_falls_from_1_and_far_influence_grows(kind):
    influence = Influence(kind, 0.8, 15.0)
    d = torch.cat([torch.linspace(0, 80, 401, dtype=torch.float64), torch.tensor([torch.inf])])
    near, far = influence.near(d), influence.far(d)
    assert (near.diff() <= 0).all() and (far.diff() >= 0).all()
    at_tau = {"sigmoid": 0.5, "linear": 0.0, "tanh": 0.2384}[kind]
    assert near[0] > 0.99 and near[75].item() == pytest.approx(at_tau, abs=1e-4)  # 15 m
    assert near[-1] == 0 and far[-1] == 1  # no common frame
    torch.testing.assert_close(near + far, torch.ones_like(d))
    expected = torch.tensor([g_near(v, influence) for v in numbers(d[:-1])], dtype=torch.float64)
    torch.testing.assert_close(near[:-1], expected)


@KINDS
def test_the_soft_contrastive_losses_equal_plain_loops(kind):
    """The paper's form, the released one of all anchors and of the first, the plain sum."""
    influence, eta, nu = Influence(kind, 0.5, 15.0), 2.0, 5.0
    tuples, metres = descriptors(2, 5), positions_to_metres(5)
    paper, released, plain = [], [], 0.0
    for f, d in zip(tuples, metres, strict=True):
        near = far = 0.0
        for i in range(1, 5):
            s = gap(numbers(f[i]), numbers(f[0]))
            g = g_near(float(d[0, i]), influence)
            near += math.exp(eta * g * s - 1)
            far += math.exp(1 - nu * (1 - g) * s)
            plain += (2 * g - 1) * s / 8
        paper.append(math.log(1 + near) / eta + math.log(1 + far) / nu)
        for i in range(5):
            near = far = 0.0
            for j in {*range(5)} - {i}:
                s = max(0.0, dot(numbers(f[i]), numbers(f[j])))
                g = g_near(float(d[i, j]), influence)
                near += math.exp(-eta * (g * s - 1))
                far += math.exp(nu * ((1 - g) * s - 1))
            released.append(math.log(1 + near) / eta + math.log(1 + far) / nu)
    shared = tuples, metres, influence
    value = losses.soft_contrastive_paper(*shared, eta, nu)
    assert value.item() == pytest.approx(sum(paper) / 2, rel=1e-12)
    value = losses.soft_contrastive_released(*shared, eta, nu)
    assert value.item() == pytest.approx(sum(released) / 10, rel=1e-12)
    value = losses.soft_contrastive_released(*shared, eta, nu, "first")
    assert value.item() == pytest.approx((released[0] + released[5]) / 2, rel=1e-12)
    assert losses.soft_sum(*shared).item() == pytest.approx(plain, rel=1e-9)


def test_mining_leaves_out_the_pairs_that_are_clearly_easy():
    influence, eta, nu = Influence("sigmoid", 0.5, 15.0), 2.0, 5.0
    tuples, metres = descriptors(2, 6), positions_to_metres(6)
    expected, left_out = [], 0
    for f, d in zip(tuples, metres, strict=True):
        for i in range(6):
            others = [j for j in range(6) if j != i]
            s = {j: max(0.0, dot(numbers(f[i]), numbers(f[j]))) for j in others}
            g = {j: g_near(float(d[i, j]), influence) for j in others}
            most = max(0.0, *(g[j] * s[j] for j in others))
            least = min(0.0, *(g[j] * (s[j] - most) for j in others)) + most
            hardest = max(0.0, *((1 - g[j]) * s[j] for j in others))
            near = [j for j in others if g[j] * s[j] < hardest + 0.1]
            far = [j for j in others if (1 - g[j]) * s[j] > least - 0.1]
            left_out += 10 - len(near) - len(far)
            positive = sum(math.exp(-eta * (g[j] * s[j] - 1)) for j in near)
            negative = sum(math.exp(nu * ((1 - g[j]) * s[j] - 1)) for j in far)
            expected.append(math.log(1 + positive) / eta + math.log(1 + negative) / nu)
    value = losses.soft_contrastive_released(tuples, metres, influence, eta, nu, mined=True)
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)
    assert left_out > 0


@pytest.mark.parametrize(
    "loss",
    [
        lambda t, m: losses.soft_contrastive_released(t, m, Influence(), 2.0, 50.0, mined=True),
        lambda t, m: losses.soft_contrastive_released(t, m, Influence(), 2.0, 50.0, "first"),
        lambda t, m: losses.soft_contrastive_released(t, m, Influence(), 2.0, 50.0),
        lambda t, m: losses.soft_contrastive_paper(t, m, Influence(), 2.0, 5.0),
    ],
)
def test_soft_contrastive_has_finite_gradients_for_equal_images_and_endless_distances(loss):
    same = descriptors(1, 1).detach().expand(1, 3, SIZE).clone().requires_grad_()
    metres = torch.full((1, 3, 3), torch.inf, dtype=torch.float64)
    metres[0].fill_diagonal_(0.0)
    loss(same, metres).backward()
    assert same.grad.isfinite().all()


# Baselines


def test_multi_similarity_equals_a_plain_loop():
    tuples, expected = descriptors(2, 1 + NEAR + FAR), 0.0
    for f in tuples:
        anchor, *others = (numbers(v) for v in f)
        near = sum(math.exp(-2 * (dot(anchor, o) - 0.5)) for o in others[:NEAR])
        far = sum(math.exp(50 * (dot(anchor, o) - 0.5)) for o in others[NEAR:])
        expected += (math.log(1 + near) / 2 + math.log(1 + far) / 50) / 2
    value = library_losses.multi_similarity(tuples, NEAR)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 2), (0, 0)])
def test_the_triplet_loss_with_swap_equals_a_plain_loop_over_the_hardest(positives, negatives):
    """0: over all."""
    tuples, margin = descriptors(2, 1 + NEAR + FAR), 0.4
    expected = []
    for f in tuples:
        anchor, *others = (numbers(v) for v in f)
        near = sorted(others[:NEAR], key=lambda o: -gap(anchor, o))[: positives or NEAR]
        far = sorted(others[NEAR:], key=lambda o: gap(anchor, o))[: negatives or FAR]
        for p in near:
            for n in far:
                expected.append(max(0.0, gap(anchor, p) - min(gap(anchor, n), gap(p, n)) + margin))
    indices = losses.hardest_triplets(tuples, NEAR, positives, negatives)
    value = library_losses.triplet(tuples, indices, margin)
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)


@pytest.mark.parametrize("lazy", [True, False])
def test_the_quadruplet_loss_equals_a_plain_loop(lazy):
    tuples, expected = descriptors(3, 1 + NEAR + FAR), 0.0
    for f in tuples:
        anchor, *others = (numbers(v) for v in f)
        positive = min(gap(anchor, o) for o in others[:NEAR])
        *far, last = others[NEAR:]
        for margin, origin in ((0.5, anchor), (0.2, last)):
            terms = [max(0.0, margin + positive - gap(origin, o)) for o in far]
            expected += (max(terms) if lazy else sum(terms) / len(terms)) / 3
    value = losses.quadruplet(tuples, NEAR, lazy)
    assert value.item() == pytest.approx(expected, rel=1e-9)


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
    value = losses.log_ratio(tuples, metres, 40.0)
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)


def test_distance_regression_and_the_lazy_triplet_equal_plain_loops():
    tuples, metres = descriptors(2, 1 + NEAR + FAR), positions_to_metres(1 + NEAR + FAR)
    regression, lazy = [], []
    for f, d in zip(tuples, metres, strict=True):
        gaps = [gap(numbers(f[0]), numbers(o)) for o in f[1:]]
        for distance, away in zip(gaps[:NEAR], d[0, 1:], strict=False):
            error = abs(distance**2 / 2 - (float(away) / 20.0) ** 2)
            regression.append(error**2 / 2 if error < 1 else error - 0.5)
        lazy.append(max(0.0, 0.4 + min(gaps[:NEAR]) - min(gaps[NEAR:])))
    value = losses.distance_regression(tuples, metres, NEAR, 20.0)
    assert value.item() == pytest.approx(sum(regression) / len(regression), rel=1e-9)
    value = losses.lazy_triplet(tuples, NEAR, 0.4)
    assert value.item() == pytest.approx(sum(lazy) / len(lazy), rel=1e-9)


def test_baselines_name_the_library_they_lack(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(TrainingError, match=r"pip install 'disam_ros\[train\]'"):
        library_losses.multi_similarity(descriptors(1, 4), 2)


# Local triplet


@pytest.mark.parametrize("farthest", [50.0, math.inf], ids=["of the disc", "of any route"])
def test_the_local_triplet_loss_equals_a_plain_loop(farthest):
    a, b = descriptors(6, seed=2), descriptors(6, seed=3)
    metres = positions_to_metres(6, 1)[0] + 2.0
    metres[0, 1], metres[1, 2] = torch.inf, 5.0
    total, pairs = 0.0, 0
    for way, (x, y) in enumerate(((a, b), (b, a))):
        for i in range(6):
            positive = 2 - 2 * dot(numbers(x[i]), numbers(y[i]))
            for j in range(6):
                d = float(metres[i, j] if way == 0 else metres[j, i])
                if i == j or not 5 < d <= farthest:
                    continue
                pairs += 1 - way
                negative = 2 - 2 * dot(numbers(x[i]), numbers(y[j]))
                weight = 1 - math.exp(-(d**2) / 200)
                total += weight * math.log(1 + math.exp(10 * (positive - negative)))
    value = losses.local_triplet(a, b, metres, 10.0, 10.0, 5.0, farthest)
    assert pairs > 0
    assert value.item() == pytest.approx(0.5 * total / (pairs + 1e-3), rel=1e-12)
    value.backward()
    assert a.grad.isfinite().all()


def test_the_local_triplet_loss_neither_overflows_nor_needs_a_negative():
    a = torch.eye(2, requires_grad=True)
    for apart, loss_of in ((20.0, lambda v: v.isfinite()), (0.0, lambda v: v == 0)):
        metres = torch.tensor([[0.0, apart], [apart, 0.0]])
        value = losses.local_triplet(a, a.detach().flip(0), metres, 1000.0, 10.0, 5.0, 50.0)
        value.backward()
        assert loss_of(value) and a.grad.isfinite().all()


# Depth


def test_depth_loss_is_the_mean_gap_over_known_pixels_and_beyond_the_limit_counts_as_the_limit():
    truth = torch.tensor([[0.2, torch.nan], [torch.inf, 3.0]]).view(1, 1, 2, 2)
    predicted = torch.tensor([[0.3, 0.9], [0.6, 0.9]]).view(1, 1, 2, 2).requires_grad_()
    value = losses.depth_loss(predicted, truth)
    assert value.item() == pytest.approx((0.1 + 0.4 + 0.1) / 3, rel=1e-5)
    value.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[0, 0, 0, 1] == 0
    predicted.grad = None
    value = losses.depth_loss(predicted, torch.full((1, 1, 2, 2), torch.nan))
    value.backward()
    assert value == 0 and not predicted.grad.any()


def test_hallucination_does_not_depend_on_the_features_scale_and_teaches_the_imitation_alone():
    imitated, truth = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    imitated, truth = imitated.requires_grad_(), truth.requires_grad_()
    value = losses.hallucination_loss(imitated, truth)
    value.backward()
    assert truth.grad is None and imitated.grad is not None
    torch.testing.assert_close(losses.hallucination_loss(7 * imitated, 7 * truth), value)
    assert losses.hallucination_loss(truth, truth) == 0
