# SPDX-License-Identifier: Apache-2.0
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from disam_ros.config import DescriptorConfig
from disam_ros.models.descriptor import coarse_descriptor, fine_descriptor, grid_shape
from disam_ros.models.similarity import (
    activation_map,
    coarse_similarity,
    fine_similarity,
    sam_weights,
    shifted_similarity,
)


def features(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def pair():
    return features(0, 5, 3, 4), features(1, 5, 3, 4)


def test_coarse_similarity_is_the_mean_of_the_channels_spatial_cosines(pair):
    a, b = (z.numpy() for z in pair)
    total = 0.0
    for k in range(5):
        dot = norm_a = norm_b = 0.0
        for p in range(3):
            for q in range(4):
                dot += a[k, p, q] * b[k, p, q]
                norm_a += a[k, p, q] ** 2
                norm_b += b[k, p, q] ** 2
        total += dot / math.sqrt(norm_a * norm_b)
    assert coarse_similarity(*pair).item() == pytest.approx(total / 5, abs=1e-14)


def test_fine_similarity_is_the_cosine_of_the_flattened_features(pair):
    a, b = (z.numpy().ravel() for z in pair)
    expected = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    assert fine_similarity(*pair).item() == pytest.approx(expected, abs=1e-14)


def test_coarse_similarity_is_one_inner_product_of_descriptors(pair):
    exact = DescriptorConfig(coarse_grid=4, fine_grid=4)
    a, b = (coarse_descriptor(z[None], exact)[0] for z in pair)
    assert (a @ b).item() == pytest.approx(coarse_similarity(*pair).item(), abs=1e-15)


def test_fine_similarity_is_one_inner_product_of_descriptors(pair):
    exact = DescriptorConfig(coarse_grid=4, fine_grid=4)
    a, b = (fine_descriptor(z[None], exact)[0] for z in pair)
    assert (a @ b).item() == pytest.approx(fine_similarity(*pair).item(), abs=1e-15)


def test_sam_weights_in_closed_form_equal_autograd(pair):
    a, b = pair
    a = a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(coarse_similarity(a, b), a)
    assert torch.allclose(sam_weights(a, b), gradient.sum((-2, -1)), atol=1e-14)


def test_activation_map_equals_autograd_weights_times_features(pair):
    a, b = pair
    leaf = a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(coarse_similarity(leaf, b), leaf)
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for k in range(5):
        expected += gradient[k].sum() * a[k]
    assert torch.allclose(activation_map(a, b), expected.clamp_min(0), atol=1e-14)


def test_the_activation_map_of_an_image_with_itself_is_zero(pair):
    a, _ = pair
    assert activation_map(a, a).max() < 1e-14


def test_similarities_do_not_change_when_features_are_scaled(pair):
    a, b = pair
    scale = torch.rand(5, 1, 1, dtype=torch.float64) + 0.1
    assert torch.isclose(coarse_similarity(scale * a, b), coarse_similarity(a, b))
    assert torch.isclose(fine_similarity(3 * a, 7 * b), fine_similarity(a, b))


def test_batches_give_what_single_images_give():
    a, b = features(2, 3, 5, 3, 4), features(3, 3, 5, 3, 4)
    for function in (coarse_similarity, fine_similarity, activation_map):
        single = torch.stack([function(x, y) for x, y in zip(a, b, strict=True)])
        assert torch.allclose(function(a, b), single)


def test_a_channel_without_any_feature_counts_as_cosine_zero(pair):
    a, b = (z.clone() for z in pair)
    a[2] = 0
    assert torch.isfinite(coarse_similarity(a, b))
    assert torch.isfinite(activation_map(a, b)).all()


def test_centering_removes_a_constant_added_to_a_channel(pair):
    config = DescriptorConfig(coarse_grid=4, fine_grid=4, centered=True)
    a, _ = pair
    shifted = a + torch.arange(5, dtype=torch.float64)[:, None, None]
    for function in (coarse_descriptor, fine_descriptor):
        assert torch.allclose(function(a[None], config), function(shifted[None], config))


def test_the_grid_keeps_the_shape_of_the_feature_map():
    assert grid_shape(24, 32, 8) == (6, 8)
    assert grid_shape(64, 64, 16) == (16, 16)
    assert grid_shape(24, 32, 100) == (24, 32)


def test_shifted_similarity_without_a_shift_is_the_fine_similarity():
    a, b = features(1, 4, 3, 5, 6), features(2, 4, 3, 5, 6)
    assert torch.allclose(shifted_similarity(a, b, 0, 0), fine_similarity(a, b), atol=1e-12)


def test_a_wider_shift_never_lowers_the_similarity_and_it_is_symmetric():
    a, b = features(1, 4, 3, 5, 6), features(2, 4, 3, 5, 6)
    scores = [shifted_similarity(a, b, *s) for s in ((0, 0), (1, 0), (2, 1), (3, 2))]
    assert all((wide >= narrow).all() for narrow, wide in pairwise(scores))
    assert torch.allclose(shifted_similarity(b, a, 2, 1), scores[2], atol=1e-12)


def test_a_view_moved_sideways_and_up_is_recognized():
    wide = features(3, 3, 8, 10)
    a, b = wide[:, 1:6, 2:8], wide[:, 0:5, 0:6]  # b sees two columns and a row further
    assert shifted_similarity(a, b, 2, 1).item() == pytest.approx(1.0)
    assert shifted_similarity(a, b, 1, 1).item() < 0.9
