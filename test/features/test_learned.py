# SPDX-License-Identifier: Apache-2.0
"""XFeat and ALIKED, where their weights are installed; their parts on small tensors."""

import numpy as np
import pytest
import torch

from disam_ros.errors import ModelError
from disam_ros.features.learned import aliked, extractors, weights, xfeat


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


def test_a_file_that_holds_no_weights_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    monkeypatch.setattr(weights, "weight_file", lambda *_: tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        weights.load_weights("xfeat", "bad.pt", "cpu")


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
