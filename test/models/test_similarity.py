# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch

from disam_ros.config import DescriptorConfig
from disam_ros.models.similarity import (
    Shifts,
    activation_map,
    coarse_descriptor,
    coarse_similarity,
    fine_descriptor,
    fine_similarity,
    grid_shape,
    shifted_descriptors,
    shifted_similarities,
    sub_cell_shifts,
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


def test_either_similarity_is_one_inner_product_of_descriptors(pair):
    exact = DescriptorConfig(coarse_grid=4, fine_grid=4)
    pairs = (coarse_descriptor, coarse_similarity), (fine_descriptor, fine_similarity)
    for descriptor, similarity in pairs:
        a, b = (descriptor(z[None], exact)[0] for z in pair)
        assert (a @ b).item() == pytest.approx(similarity(*pair).item(), abs=1e-15)


def test_activation_map_equals_autograd_weights_times_features(pair):
    a, b = pair
    leaf = a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(coarse_similarity(leaf, b), leaf)
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for k in range(5):
        expected += gradient[k].sum() * a[k]
    assert torch.allclose(activation_map(a, b), expected.clamp_min(0), atol=1e-14)


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


def test_the_grid_keeps_the_shape_of_the_feature_map():
    assert grid_shape(24, 32, 8) == (6, 8)
    assert grid_shape(64, 64, 16) == (16, 16)
    assert grid_shape(24, 32, 100) == (24, 32)


def overlap(z, dy, dx):
    """The cells of z that a shift by dy rows and dx columns compares."""
    height, width = z.shape[-2:]
    return z[..., max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]


def test_shifted_similarities_equal_a_loop_over_images_and_shifts():
    a, b, shifts = features(1, 2, 3, 5, 6), features(2, 4, 3, 5, 6), Shifts(1, 2)
    result = shifted_similarities(a, b, shifts)
    assert result.shape == (2, 4, len(shifts))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            expected = [
                fine_similarity(overlap(x, *s), overlap(y, -s[0], -s[1])) for s in shifts.cells
            ]
            assert torch.allclose(result[i, j], torch.stack(expected), atol=1e-13)


def test_the_shifts_of_a_view_are_a_quarter_sideways_and_a_sixth_up_and_down():
    assert Shifts.of_grid(12, 16) == Shifts(2, 4)
    assert Shifts.of_grid(1, 1) == Shifts(0, 0)


def test_a_view_moved_sideways_and_up_is_recognized_and_its_shift_found():
    wide = features(3, 1, 3, 8, 10)
    a, b = wide[..., 1:6, 2:8], wide[..., 0:5, 0:6]  # a sees two columns and a row further
    result = shifted_similarities(a, b, Shifts(1, 2))[0]
    assert result.max().item() == pytest.approx(1.0)
    assert sub_cell_shifts(result.numpy(), Shifts(1, 2))[0].tolist() == [-2.0, -1.0]
    assert shifted_similarities(a, b, Shifts(1, 1)).max().item() < 0.9


def test_a_shift_between_two_cells_is_found_between_them():
    shifts = Shifts(2, 4)
    y, x = np.array(shifts.cells).T
    for true_x, true_y in ((0.0, 0.0), (1.3, -0.4), (-2.5, 0.8)):
        peak = 1.0 - 0.01 * ((x - true_x) ** 2 + (y - true_y) ** 2)
        result = sub_cell_shifts(peak[None].astype(np.float32), shifts)
        assert np.allclose(result, [[true_x, true_y]], atol=1e-3)


def test_flat_similarities_give_no_shift_that_is_not_finite():
    result = sub_cell_shifts(np.zeros((2, 45), np.float32), Shifts(2, 4))
    assert np.isfinite(result).all()


def test_coarse_descriptors_of_shifted_views_hold_the_view_itself_in_their_middle():
    z, config = features(4, 1, 5, 12, 16), DescriptorConfig(coarse_grid=8)
    shifted = shifted_descriptors(z, config)
    assert shifted.shape == (5, 5 * 6 * 8)
    assert torch.allclose(shifted[2], coarse_descriptor(z, config)[0], atol=1e-12)
    one = shifted_descriptors(features(4, 1, 5, 1, 1), config)
    assert one.shape == (1, 5)


def test_a_view_from_another_lane_is_nearer_to_one_of_the_shifted_views():
    wide, config = features(5, 1, 5, 12, 20), DescriptorConfig(coarse_grid=8)
    here, there = wide[..., :16], wide[..., 4:]
    reference = coarse_descriptor(there, config)[0]
    scores = shifted_descriptors(here, config) @ reference
    assert scores.argmax() in (0, 4) and scores.max() > scores[2] + 0.3


def test_arrays_and_tensors_get_the_same_similarities_maps_and_descriptors():
    a, b = (features(k, 3, 4, 6, 8).float() for k in (1, 2))
    shifts, config = Shifts(1, 2), DescriptorConfig(coarse_grid=5, fine_grid=4)
    functions = {
        "coarse": coarse_similarity,
        "fine": fine_similarity,
        "shifted": lambda x, y: shifted_similarities(x, y, shifts),
        "activation map": activation_map,
        "coarse descriptor": lambda x, y: coarse_descriptor(x, config),
        "fine descriptor": lambda x, y: fine_descriptor(x, config),
        "shifted descriptors": lambda x, y: shifted_descriptors(x[:1], config),
    }
    for name, function in functions.items():
        result, expected = function(a.numpy(), b.numpy()), function(a, b).numpy()
        assert result.dtype == np.float32 and result.shape == expected.shape, name
        assert np.allclose(result, expected, atol=1e-6), name
