# SPDX-License-Identifier: Apache-2.0
"""LightGlue of random weights, and with its authors' where they are installed."""

import numpy as np
import pytest
import torch
from support.scene import pose, render

from benchmark.accuracy import light_glue
from disam_ros.features.learned import weights
from disam_ros.features.local_features import open_features


def random_matcher(dimension=8, heads=2, layers=2, inputs=4):
    """A LightGlue of random weights."""
    rng = torch.Generator().manual_seed(2)

    def layer(name, inputs, outputs):
        return {
            f"{name}.weight": torch.randn(outputs, inputs, generator=rng) / inputs**0.5,
            f"{name}.bias": torch.zeros(outputs),
        }

    state = layer("input_proj", inputs, dimension) | layer("posenc.Wr", 2, dimension // heads // 2)
    del state["posenc.Wr.bias"]
    for i in range(layers):
        for part, names in (
            ("self_attn", {"Wqkv": 3 * dimension, "out_proj": dimension}),
            ("cross_attn", {"to_qk": dimension, "to_v": dimension, "to_out": dimension}),
        ):
            name = f"transformers.{i}.{part}"
            for key, size in names.items():
                state |= layer(f"{name}.{key}", dimension, size)
            state |= layer(f"{name}.ffn.0", 2 * dimension, 2 * dimension)
            norm = {"weight": torch.ones(2 * dimension), "bias": torch.zeros(2 * dimension)}
            state |= {f"{name}.ffn.1.{key}": value for key, value in norm.items()}
            state |= layer(f"{name}.ffn.3", 2 * dimension, dimension)
        state |= layer(f"log_assignment.{i}.matchability", dimension, 1)
        state |= layer(f"log_assignment.{i}.final_proj", dimension, dimension)
    return light_glue.LightGlue(state, heads)


def test_matching_does_not_depend_on_the_order_of_images_or_keypoints():
    network, rng = random_matcher(), torch.Generator().manual_seed(3)
    a, b = (torch.randn(n, 4, generator=rng) for n in (7, 9))
    where_a, where_b = (torch.rand(n, 2, generator=rng) for n in (7, 9))
    shares = network(a, b, where_a, where_b)
    assert ((shares > 0) & (shares < 1)).all()
    assert torch.allclose(network(b, a, where_b, where_a), shares.T, atol=1e-6)
    order = torch.randperm(7, generator=rng)
    assert torch.allclose(network(a[order], b, where_a[order], where_b), shares[order], atol=1e-6)


def test_positions_count_relative_to_each_other_only():
    """Rotary encodings: a shift of all of an image's keypoints changes nothing."""
    network, rng = random_matcher(), torch.Generator().manual_seed(4)
    a, b = (torch.randn(6, 4, generator=rng) for _ in range(2))
    where = torch.rand(6, 2, generator=rng)
    shares = network(a, b, where, where)
    assert torch.allclose(network(a, b, where + 0.3, where), shares, atol=1e-5)
    assert not torch.allclose(network(a, b, 2 * where, where), shares, atol=1e-3)


@pytest.mark.skipif(not weights.installed("xfeat"), reason="the extra xfeat is not installed")
def test_the_learned_matcher_finds_shifted_keypoints():
    features, matcher = open_features("xfeat"), light_glue.LearnedMatcher("xfeat")
    whole = render(pose(0))[0]
    a, b = features.extract(whole[:, :300], 300), features.extract(whole[:, 20:], 300)
    pairs = matcher(a, b)
    gaps = a.pixels[pairs[:, 0]] - b.pixels[pairs[:, 1]]
    assert len(pairs) > 50
    assert np.mean(np.linalg.norm(gaps - [20, 0], axis=1) < 2.5) > 0.9
    assert len(matcher(a[:0], b)) == 0
