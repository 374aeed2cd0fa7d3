# SPDX-License-Identifier: Apache-2.0
"""XFeat, ALIKED and LightGlue, where their weights are installed; their parts on small tensors."""

import numpy as np
import pytest
from support.scene import pose, render

torch = pytest.importorskip("torch")

from disam_ros.errors import ConfigError, ModelError  # noqa: E402
from disam_ros.features.learned import aliked, extractors, light_glue, weights, xfeat  # noqa: E402
from disam_ros.features.local_features import open_features  # noqa: E402
from disam_ros.features.matching import (  # noqa: E402
    LearnedMatcher,
)


def needs(extra):
    return pytest.mark.skipif(
        not weights.installed(extra), reason=f"the extra {extra} is not installed"
    )


def test_the_place_of_a_keypoint_in_its_cell_is_read_off_the_logits():
    logits = np.zeros((3, 4, 65), np.float32)
    logits[..., 64] = 20.0  # no keypoint
    logits[1, 2, :] = 0.0
    logits[1, 2, 8 * 3 + 5] = 20.0
    assert np.argwhere(extractors._peaks(logits)).tolist() == [[8 + 3, 16 + 5]]


def test_cells_are_sampled_bilinearly_between_their_centres():
    y, x = np.mgrid[:6, :5].astype(np.float32)
    pixels = np.array([[3.5, 3.5], [11.5, 3.5], [20.0, 30.25]], np.float32)
    result = extractors._sample(np.stack([8 * x + 3.5, 8 * y + 3.5], 2), pixels)
    assert np.allclose(result, pixels)


def deformable(offset, channels=3):
    """A deformable layer of random weights with one offset (x, y) of all taps, and its weights."""
    rng = torch.Generator().manual_seed(0)
    state = {
        "b.conv1.regular_conv.weight": torch.randn(5, channels, 3, 3, generator=rng),
        "b.conv1.offset_conv.weight": torch.zeros(18, channels, 3, 3),
        "b.conv1.offset_conv.bias": torch.tensor([offset[1], offset[0]] * 9),
        "b.bn1.weight": torch.ones(5) * (1.0 + aliked.EPSILON) ** 0.5,
        "b.bn1.bias": torch.zeros(5),
        "b.bn1.running_mean": torch.zeros(5),
        "b.bn1.running_var": torch.ones(5),
    }
    return aliked._Deformable(state, "b", 1), state["b.conv1.regular_conv.weight"]


def test_a_deformable_convolution_samples_its_taps_at_their_offsets():
    image = torch.randn(1, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    plain, weight = deformable((0.0, 0.0))
    expected = torch.nn.functional.conv2d(image, weight, padding=1)
    assert torch.allclose(plain(image), expected, atol=1e-5)
    moved, _ = deformable((2.0, 1.0))
    assert torch.allclose(moved(image)[..., 1:-2, 1:-3], expected[..., 2:-1, 3:-1], atol=1e-5)
    between = (expected[..., 2:-2, 2:-3] + expected[..., 2:-2, 3:-2]) / 2
    half, _ = deformable((0.5, 0.0))
    assert torch.allclose(half(image)[..., 2:-2, 2:-3], between, atol=1e-5)


def test_maxima_are_refined_to_fractions_of_a_pixel():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    heat = 0.9 * torch.exp(-((x - 30.3) ** 2 + (y - 17.8) ** 2) / 4)
    pixels, scores = aliked.keypoints(heat[None, None], 1)
    assert torch.allclose(pixels, torch.tensor([[30.3, 17.8]]), atol=0.15)
    assert 0.8 < float(scores[0]) < 0.9


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


def test_a_file_that_holds_no_weights_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    monkeypatch.setattr(weights, "weight_file", lambda *_: tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        weights.load_weights("xfeat", "bad.pt", "cpu")


@pytest.mark.parametrize("shape", [(96, 128), (75, 210), (240, 320)])
@pytest.mark.parametrize("kind", ["xfeat", "aliked"])
def test_images_of_any_size_have_keypoints(kind, shape):
    try:
        features = open_features(kind)
    except ConfigError as error:
        pytest.skip(str(error))
    image = np.ascontiguousarray(render(pose(0))[0][: shape[0], : shape[1]])
    result = features.extract(image, 200)
    assert len(result) > 50
    assert (result.pixels >= -0.5).all() and (result.pixels < [shape[1], shape[0]]).all()


@needs("xfeat")
def test_xfeat_gives_what_its_authors_network_gives():
    """The expected values are those of the authors' code for the same input."""
    y, x = np.mgrid[:64, :96].astype(np.float32)
    image = np.sin(x / 5) * np.cos(y / 7) + 0.3 * np.sin(x * y / 200)
    image = (image - image.mean()) / image.std()
    with torch.inference_mode():
        result = xfeat.load_xfeat()(torch.from_numpy(image)[None, None])
    assert [list(part.shape) for part in result] == [[1, 64, 8, 12], [1, 65, 8, 12], [1, 1, 8, 12]]
    expected = ([1.75222, -0.66381, -0.14642], [-0.17433, -2.13581, -3.38793], [0.05953])
    for part, values in zip(result, expected, strict=True):
        assert np.allclose(part[0, :3, 4, 6], values, atol=1e-4)


@needs("xfeat")
def test_the_learned_matcher_finds_shifted_keypoints():
    features, matcher = open_features("xfeat"), LearnedMatcher("xfeat")
    whole = render(pose(0))[0]
    a, b = features.extract(whole[:, :300], 300), features.extract(whole[:, 20:], 300)
    pairs = matcher(a, b)
    gaps = a.pixels[pairs[:, 0]] - b.pixels[pairs[:, 1]]
    assert len(pairs) > 50
    assert np.mean(np.linalg.norm(gaps - [20, 0], axis=1) < 2.5) > 0.9
    assert len(matcher(a[:0], b)) == 0
