# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from disam_ros.index import FaissIndex, TorchIndex


@pytest.fixture
def descriptors():
    rows = np.random.default_rng(0).normal(size=(200, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("kind", [FaissIndex, lambda d: TorchIndex(d, "cpu")])
def test_search_finds_the_largest_inner_products_of_a_plain_loop(descriptors, dtype, kind):
    stored = descriptors.astype(dtype)
    query = descriptors[7] + descriptors[8]
    products = np.array([float(np.dot(row.astype(np.float64), query)) for row in stored])
    tolerance = 2e-3 if dtype == np.float16 else 1e-6  # rounding may swap near-equal images
    rows, scores = kind(stored).search(torch.from_numpy(query), 5)
    assert len(set(rows.tolist())) == 5
    assert np.allclose(products[rows], np.sort(products)[::-1][:5], atol=tolerance)
    assert np.allclose(scores, products[rows], atol=tolerance)


@pytest.mark.parametrize("kind", [FaissIndex, lambda d: TorchIndex(d, "cpu")])
def test_fewer_images_than_asked_for_are_all_returned(descriptors, kind):
    rows, scores = kind(descriptors[:2]).search(torch.from_numpy(descriptors[1]), 3)
    assert rows.tolist() == [1, 0]
    assert len(scores) == 2
