# SPDX-License-Identifier: Apache-2.0
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from disam_ros.models.similarity import coarse_similarity
from training.disam import losses


def features(seed, *shape, grad=False):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return values.requires_grad_(grad)


def test_gan_loss_of_perfect_predictions_is_zero():
    assert losses.gan_loss([torch.ones(1, 1, 2, 2)] * 8, 1.0).item() == 0.0


def test_cycle_loss_is_the_mean_absolute_difference():
    a, b = features(0, 2, 3, 4, 4), features(1, 2, 3, 4, 4)
    expected = np.abs(a.numpy() - b.numpy()).mean()
    assert losses.cycle_loss(a, b).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("form", "through_target"), [("paper", True), ("released", False), ("relative", False)]
)
def test_all_forms_but_the_papers_detach_their_target(form, through_target):
    z_again, z = features(0, 1, 2, 3, 3, grad=True), features(1, 1, 2, 3, 3, grad=True)
    losses.feature_consistency(z_again, z, form).sum().backward()
    assert z_again.grad is not None
    assert (z.grad is not None) == through_target
    real, translated = features(2, 1, 3, 3, grad=True), features(3, 1, 3, 3, grad=True)
    losses.activation_consistency(real, translated, form).sum().backward()
    assert real.grad is not None
    assert (translated.grad is not None) == through_target


def test_feature_cosine_loss_is_zero_for_equal_and_two_for_opposite_features():
    z = features(0, 2, 3, 4, 4)
    assert losses.feature_cosine_loss(z, z).item() == pytest.approx(0.0, abs=1e-12)
    assert losses.feature_cosine_loss(z, -z).item() == pytest.approx(2.0, abs=1e-12)


def sam_by_autograd(z, z_other):
    """Eq. 17, 18 as printed: the derivative of Y, kept differentiable."""
    z = z if z.requires_grad else z.clone().requires_grad_()
    similarity = coarse_similarity(z, z_other).sum()
    (gradient,) = torch.autograd.grad(similarity, z, create_graph=True)
    weights = gradient.sum((-2, -1), keepdim=True)
    return torch.relu((weights * z).sum(-3))


def test_activation_maps_equal_the_autograd_form():
    z, z_again = features(0, 2, 4, 3, 5), features(1, 2, 4, 3, 5)
    real, translated = losses.activation_pair(z, z_again)
    torch.testing.assert_close(real, sam_by_autograd(z, z_again), rtol=0, atol=1e-14)
    torch.testing.assert_close(translated, sam_by_autograd(z_again, z), rtol=0, atol=1e-14)


def test_gradient_of_the_sam_loss_equals_that_of_second_order_autograd():
    gradients = []
    for activation in (losses.activation_pair, None):
        z, z_again = features(0, 2, 4, 3, 5, grad=True), features(1, 2, 4, 3, 5, grad=True)
        if activation:
            maps = activation(z, z_again)
        else:
            maps = sam_by_autograd(z, z_again), sam_by_autograd(z_again, z)
        losses.activation_consistency(*maps, "paper").sum().backward()
        gradients.append((z.grad, z_again.grad))
    for closed, autograd in zip(*gradients, strict=True):
        torch.testing.assert_close(closed, autograd, rtol=0, atol=1e-14)


def test_sam_loss_of_equal_features_is_zero():
    z = features(0, 2, 4, 3, 5)
    maps = losses.activation_pair(z, z.clone())
    assert losses.activation_consistency(*maps, "released").max().item() == 0.0


def test_sam_loss_does_not_change_when_channels_are_permuted_or_the_image_mirrored():
    z, z_again = features(0, 2, 4, 3, 5), features(1, 2, 4, 3, 5)

    def value(a, b):
        return losses.activation_consistency(*losses.activation_pair(a, b), "paper")

    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(value(z[:, order], z_again[:, order]), value(z, z_again))
    torch.testing.assert_close(value(z.flip(-1), z_again.flip(-1)), value(z, z_again))


def test_sam_maps_do_not_change_when_both_features_are_scaled():
    """ω_k falls as 1/s with the scale s of a map's own features, so ω_k z_k stays."""
    z, z_again = features(0, 2, 4, 3, 5), features(1, 2, 4, 3, 5)
    for map_, scaled in zip(
        losses.activation_pair(z, z_again), losses.activation_pair(7 * z, 3 * z_again), strict=True
    ):
        torch.testing.assert_close(map_, scaled)


def test_adaptive_triplet_equals_a_loop_over_equation_22():
    positive, negative = features(0, 6).abs(), features(1, 6).abs()
    total = 0.0
    for p, n in zip(positive.tolist(), negative.tolist(), strict=True):
        total += max(0.0, 1.0 - n / (p + 5.0 * math.exp(-2.0 * p)))
    result = losses.adaptive_triplet(positive, negative, 5.0, 2.0)
    assert result.item() == pytest.approx(total / 6, abs=1e-14)


def test_adaptive_margin_tends_to_m_as_the_positive_distance_tends_to_zero():
    """With d_p → 0 the loss tends to 1 − d_n/m: the margin is m."""
    m, away = 5.0, torch.tensor([2.0], dtype=torch.float64)
    gaps = [
        abs(losses.adaptive_triplet(away * 0 + p, away, m, 2.0).item() - (1 - 2.0 / m))
        for p in (1.0, 0.1, 0.01, 0.0)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(0.0, abs=1e-15)


def test_adaptive_margin_vanishes_for_large_positive_distances():
    positive, negative = torch.tensor([100.0]), torch.tensor([40.0])
    result = losses.adaptive_triplet(positive, negative, 5.0, 2.0)
    assert result.item() == pytest.approx(1 - 40.0 / 100.0)


def test_with_alpha_zero_the_margin_is_the_same_at_any_positive_distance():
    positive, negative = torch.tensor([0.0, 10.0]), torch.tensor([1.0, 1.0])
    expected = ((1 - 1 / 5) + (1 - 1 / 15)) / 2
    assert losses.adaptive_triplet(positive, negative, 5.0, 0.0).item() == pytest.approx(expected)


def test_triplet_is_zero_beyond_the_margin():
    assert losses.adaptive_triplet(torch.zeros(1), torch.tensor([5.0]), 5.0, 2.0).item() == 0.0


@pytest.mark.parametrize("form", losses.FORMS)
def test_hardest_negative_is_the_nearest_of_the_group(form):
    anchor, group = features(0, 3, 2, 4, 4), features(1, 10, 2, 4, 4)
    result = losses.hardest_negative(anchor, group, partial(losses.distance, form=form))
    for a, chosen in zip(anchor, result, strict=True):
        gaps = [(a - g).norm().item() for g in group]
        assert torch.equal(chosen, group[int(np.argmin(gaps))])


def test_hardest_negative_needs_no_gradient():
    anchor, group = features(0, 2, 5, grad=True), features(1, 4, 5)
    measure = partial(losses.distance, form="released")
    assert not losses.hardest_negative(anchor, group, measure).requires_grad


def unit(seed, *shape, grad=False):
    values = features(seed, *shape)
    return (values / values.norm(dim=1, keepdim=True)).requires_grad_(grad)


@pytest.mark.parametrize("hard", [False, True])
def test_aligned_triplet_equals_a_loop(hard):
    a, b = unit(0, 5, 6), unit(1, 5, 6)
    different = ~torch.eye(5, dtype=torch.bool)
    different[0, 1] = different[1, 0] = False
    sides = []
    for x, y in ((a, b), (b, a)):
        terms = []
        for i in range(5):
            p = (x[i] - y[i]).norm().item()
            hinge = p + 0.5 * math.exp(-2.0 * p)
            others = [(x[i] - y[j]).norm().item() for j in range(5) if different[i, j]]
            others = [min(others)] if hard else others
            terms += [max(0.0, 1.0 - n / hinge) for n in others]
        sides.append(np.mean(terms))
    result = losses.aligned_triplet(losses.unit_distances(a @ b.T), different, 0.5, 2.0, hard)
    assert result.item() == pytest.approx(np.mean(sides), abs=1e-12)


def test_contrastive_equals_a_loop_and_leaves_doubtful_negatives_out():
    a, b = unit(0, 4, 6), unit(1, 4, 6)
    different = ~torch.eye(4, dtype=torch.bool)
    different[2, 3] = False
    terms = []
    for x, y, mask in ((a, b, different), (b, a, different.T)):
        for i in range(4):
            scores = {j: (x[i] @ y[j]).item() / 0.1 for j in range(4) if j == i or mask[i, j]}
            terms.append(math.log(sum(math.exp(s) for s in scores.values())) - scores[i])
    result = losses.contrastive(a @ b.T, different, 0.1)
    assert result.item() == pytest.approx(np.mean(terms), abs=1e-12)


def test_distillation_equals_a_loop_and_its_teacher_has_no_gradient():
    z, teacher = (features(k, 2, 3, 2, 4, grad=True) for k in range(2))
    cells = [
        1 - (a @ b / (a.norm() * b.norm())).item()
        for a, b in zip(
            z.permute(0, 2, 3, 1).reshape(-1, 3),
            teacher.permute(0, 2, 3, 1).reshape(-1, 3),
            strict=True,
        )
    ]
    result = losses.distillation(z, teacher)
    assert result.item() == pytest.approx(np.mean(cells), abs=1e-12)
    result.backward()
    assert z.grad.norm() > 0 and teacher.grad is None


def test_losses_on_true_pairs_are_finite_where_a_batch_has_no_sure_negative():
    a, b = unit(0, 3, 6, grad=True), unit(1, 3, 6)
    none = torch.zeros(3, 3, dtype=torch.bool)
    triplet = losses.aligned_triplet(losses.unit_distances(a @ b.T), none, 0.5, 2.0, True)
    (triplet + losses.contrastive(a @ b.T, none, 0.1)).backward()
    assert a.grad.isfinite().all()


def test_gradients_are_right():
    z, z_again, other = (features(k, 2, 3, 3, 3, grad=True) for k in range(3))
    different = ~torch.eye(4, dtype=torch.bool)
    a, b = unit(3, 4, 5, grad=True), unit(4, 4, 5, grad=True)

    def triplet(x, y, n, margin, alpha):
        gap, away = losses.distance(x, y, "paper"), losses.distance(x, n, "paper")
        return losses.adaptive_triplet(gap, away, margin, alpha)

    def sam_triplet(x, y, n):
        gap, away = losses.map_distance(x, y, "paper"), losses.map_distance(x, n, "paper")
        return losses.adaptive_triplet(gap, away, 0.1, 3.0)

    assert gradcheck(lambda x, y: losses.feature_consistency(x, y, "paper"), (z_again, z))
    assert gradcheck(lambda *p: losses.gan_loss(p, 1.0), (z, z_again))
    assert gradcheck(losses.cycle_loss, (z_again, z))
    assert gradcheck(losses.feature_cosine_loss, (z_again, z))
    assert gradcheck(losses.activation_pair, (z, z_again))
    assert gradcheck(lambda x, y, n: triplet(x, y, n, 5.0, 0.2), (z_again, z, other))
    assert gradcheck(sam_triplet, (z_again, z, other))
    triplets = partial(losses.aligned_triplet, different=different, margin=2.0, alpha=0.5)
    assert gradcheck(lambda x, y: triplets(losses.unit_distances(x @ y.T), hard=False), (a, b))
    assert gradcheck(lambda x, y: losses.contrastive(x @ y.T, different, 0.1), (a, b))
    assert gradcheck(lambda x: losses.distillation(x, other), (z,))
