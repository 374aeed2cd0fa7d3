# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
pytest.importorskip("matplotlib", reason="not installed: pip install matplotlib")

from benchmark.accuracy import __main__ as accuracy
from benchmark.accuracy import ablation, gardens_point, models, nordland, remedies, town
from benchmark.peers import PEERS, SEQUENCE_PEERS, peer_similarities
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
from benchmark.peers.table import percent
from benchmark.peers.vlad import vlad
from demo.drives import CONDITIONS
from disam_ros.domains.domain import Domain
from disam_ros.errors import DatasetError, ModelError
from disam_ros.evaluation import score
from disam_ros.evaluation.baselines import centred_cosine
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Candidate
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.networks import NetworkConfig
from training.engine.validate import ValidationSet
from training.recipes import load_config

ROOT = Path(__file__).parents[2]
HAVE_EFFICIENTNET = importlib.util.find_spec("efficientnet_lite_pytorch") is not None
ALL_PEERS = (*PEERS, *SEQUENCE_PEERS)
METHODS = ("disam_ros", *ALL_PEERS, "chance", "nearest map image")


@pytest.fixture(params=PEERS)
def peer(request):
    if "EfficientNet" in request.param and not HAVE_EFFICIENTNET:
        pytest.skip("not installed: pip install -e '.[bench]'")
    return PEERS[request.param]


@pytest.fixture
def pictures():
    """Six different scenes of blurred noise, uint8 RGB [120, 160, 3]."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 120, 160, 3), dtype=np.uint8)
    return [cv2.normalize(cv2.GaussianBlur(n, (0, 0), 3), None, 0, 255, 32) for n in noise]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An empty docs folder and one section, `town`, that measures {"x": 1}."""
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    fake = SimpleNamespace(measure=lambda: {"x": 1}, render=lambda results: f"x = {results['x']}\n")
    monkeypatch.setattr(accuracy, "section", {"town": fake}.__getitem__)
    return fake


def test_a_map_image_is_its_own_best_match(peer, pictures):
    similarities = peer(pictures, pictures)
    assert similarities.shape == (6, 6)
    assert similarities.argmax(1).tolist() == list(range(6))


def test_a_query_is_judged_alike_whatever_the_other_queries_are(peer, pictures):
    alone, beside = peer(pictures[:4], pictures[4:5]), peer(pictures[:4], pictures[4:])
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-5)


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


def test_patch_normalized_images_do_not_tell_a_patch_s_brightness_or_contrast():
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


def two_alike(places=60, queries=40):
    """Similarities [Q, M] that find place 10 + i in image i, and another place just as much."""
    rng = np.random.default_rng(0)
    similarity = rng.normal(0, 0.1, (queries, places)).astype(np.float32)
    rows, truth = np.arange(queries), 10 + np.arange(queries)
    other = (truth + rng.integers(15, 45, queries)) % places
    similarity[rows, truth] += 1.0
    similarity[rows, other] += 1.05
    return similarity, truth


def test_a_sequence_finds_a_drive_whose_single_images_are_ambiguous():
    similarity, truth = two_alike()
    assert (similarity.argmax(1) == truth).mean() < 0.5
    found = sequence_similarity(similarity).argmax(1)
    assert (found[FRAMES:] == truth[FRAMES:]).all()


def test_a_sequence_never_looks_ahead():
    similarity, _ = two_alike()
    for queries in (1, 7, 25):
        cut = sequence_similarity(similarity[:queries])
        np.testing.assert_allclose(cut, sequence_similarity(similarity)[:queries], atol=1e-5)


@pytest.mark.parametrize("velocity", [0.0, 1.0, 2.5])
def test_a_sequence_follows_a_drive_at_any_velocity_it_is_told(velocity):
    truth = np.round(10 + velocity * np.arange(20)).astype(int)
    similarity = np.random.default_rng(1).normal(0, 0.2, (20, 80)).astype(np.float32)
    similarity[np.arange(20), truth] += 1.0
    found = sequence_similarity(similarity, (0.0, 3.0)).argmax(1)
    assert (abs(found[FRAMES:] - truth[FRAMES:]) <= 1).all()


def test_contrast_is_enhanced_by_the_mean_and_deviation_of_the_neighbours():
    similarity = np.random.default_rng(0).normal(5.0, 0.1, (3, 30))
    enhanced = enhance_contrast(similarity)
    window = similarity[:, 7:18]  # five on either side of place 12
    np.testing.assert_allclose(
        enhanced[:, 12], (similarity[:, 12] - window.mean(1)) / window.std(1), rtol=1e-4
    )
    edge = similarity[:, :6]
    np.testing.assert_allclose(
        enhanced[:, 0], (similarity[:, 0] - edge.mean(1)) / edge.std(1), rtol=1e-4
    )


def test_a_sequence_of_images_that_are_like_no_place_is_like_no_place():
    assert not sequence_similarity(np.full((12, 20), 0.3, np.float32)).any()


def test_a_sequence_ends_where_its_drive_ends(pictures, monkeypatch):
    monkeypatch.setattr("benchmark.peers.PEERS", {"Patch-normalised SAD": sad_similarity})
    drives = [pictures[:4], pictures[2:5]]
    both = dict(peer_similarities(pictures, drives))
    assert list(both) == ["Patch-normalised SAD", *SEQUENCE_PEERS]
    for k, drive in enumerate(drives):
        for name, (alone,) in peer_similarities(pictures, [drive]):
            np.testing.assert_allclose(both[name][k], alone, atol=1e-4)


def test_images_are_described_once_for_all_that_search_them(pictures, monkeypatch):
    calls = []

    def counted(map_images, query_images):
        calls.append(len(query_images))
        return np.eye(6)[: len(query_images)]

    monkeypatch.setattr("benchmark.peers.PEERS", {"Patch-normalised SAD": counted})
    assert len(dict(peer_similarities(pictures, [pictures[:2], pictures[2:5]]))) == 2
    assert calls == [5]


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


def test_a_word_that_every_map_image_has_weighs_nothing(pictures):
    assert not orb_words_similarity([pictures[0]] * 3, [pictures[0]]).any()


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


def test_the_best_of_a_column_is_bold_and_so_are_its_equals():
    assert [percent(share, (0.5004, 0.5, 0.2)) for share in (0.5004, 0.5, 0.2)] == [
        "**50.0**",
        "**50.0**",
        "20.0",
    ]


def test_chance_finds_more_the_more_it_may_draw():
    everywhere = gardens_point.chance(places=5, queries=1)  # frames 0, 1, 2 of five are right
    assert everywhere == pytest.approx({"R@1": 3 / 5, "R@5": 1.0})
    assert gardens_point.chance(200, 200)["R@1"] == pytest.approx((196 * 5 + 2 * (3 + 4)) / 200**2)


def test_recall_counts_queries_with_a_right_frame_among_those_found():
    assert gardens_point.recall([[2.0, 9.0], [9.0, 3.0], [np.inf, 5.0]]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("names", [("day", "night"), ("summer_day", "night")])
def test_day_and_night_are_called_as_the_model_calls_them(names):
    smallest = NetworkConfig(width=2, encoder_blocks=0, decoder_blocks=0, image_size=(16, 16))
    model = create_model(smallest, [Domain(name) for name in names])
    drives = ("day_left", "night_right")
    assert tuple(gardens_point.domain_of(model, drive) for drive in drives) == names


def test_missing_gardens_point_data_is_named(tmp_path):
    with pytest.raises(DatasetError, match="day_left"):
        gardens_point.measure(tmp_path)


def test_the_town_section_contains_every_figure():
    def metrics(k):  # k of 200 frames right
        truth = [Transform.identity()] * 200
        far = Transform.from_xyz_rpy([50.0 + k, 0, 0, 0, 0, 0])
        return score(truth, [truth[0]] * k + [far] * (200 - k)).to_json()

    conditions = {
        c: {m: metrics(7 * k + n) for n, m in enumerate(METHODS)} for k, c in enumerate(CONDITIONS)
    }
    text = town.render({"model": "a model", "map_images": 4321, "conditions": conditions})
    assert "4321 images" in text and "a model" in text
    for condition, methods in conditions.items():
        for method, figures in methods.items():
            (line,) = (t for t in text.splitlines() if t.startswith(f"| {condition} | {method} |"))
            assert line.count(f"{100 * figures['recall']['R@1']:.1f}") >= 4
            assert f"{figures['median_error_m']:.2f} m" in line


def test_the_gardens_point_section_contains_every_figure():
    pairs = ("day_left → day_right", "day_left → night_right", "day_right → night_right")
    methods = {
        method: {
            p: {"R@1": (9 * n + k) / 200, "R@5": (99 + 9 * n + k) / 200}
            for k, p in enumerate(pairs)
        }
        for n, method in enumerate(("one-model", *ALL_PEERS, "chance"))
    }
    text = gardens_point.render({"images": 321, "models": ["one-model (new)"], "methods": methods})
    assert "321 a drive" in text and "one-model (new)" in text
    for method, row in methods.items():
        (line,) = (t for t in text.splitlines() if t.startswith(f"| {method} |"))
        shares = [f"{100 * share:.1f}" for recalls in row.values() for share in recalls.values()]
        assert line.replace("*", "").split("|")[2:5] == [
            f" {first} / {five} " for first, five in zip(shares[::2], shares[1::2], strict=True)
        ]


def test_missing_nordland_data_is_named(tmp_path):
    with pytest.raises(DatasetError, match="rides"):
        nordland.measure(tmp_path / "rides.npz")


def test_one_nordland_frame_in_three_is_taken_of_both_rides(tmp_path):
    ride = np.arange(7, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2)
    np.savez(tmp_path / "rides.npz", summer=ride, winter=ride + 100)
    summer, winter = nordland.read(tmp_path / "rides.npz")
    assert summer.shape == winter.shape == (3, 4, 5, 3)
    assert summer[:, 0, 0].tolist() == [[0] * 3, [3] * 3, [6] * 3]
    assert winter[:, 0, 0, 0].tolist() == [100, 103, 106]


def test_a_model_finds_every_frame_of_the_ride_it_has_mapped(tmp_path, pictures):
    smallest = NetworkConfig(width=2, encoder_blocks=0, decoder_blocks=0, image_size=(16, 16))
    save_model(create_model(smallest, [Domain("day")]), tmp_path / "model")
    ride = np.stack(pictures)
    found = nordland.model_recalls(load_model(tmp_path / "model"), ride, ride, "day", "day")
    assert found == {"R@1": 1.0, "R@5": 1.0}


def test_the_default_answer_is_the_best_of_the_first_coarse_candidates():
    scores = [(0.5, 0.1), (0.9, 0.2), (0.4, 0.9), (0.8, 0.6), (0.7, 0.3)]
    candidates = [Candidate(None, coarse, fine) for coarse, fine in scores]
    assert nordland.default_answer(candidates).fine_score == 0.6


def test_the_nordland_section_contains_every_figure():
    methods = {
        m: {"R@1": n / 200, "R@5": (99 + n) / 200}
        for n, m in enumerate(("one-model (day, day)", *ALL_PEERS, "chance"))
    }
    text = nordland.render({"places": 77, "step": 3, "models": ["a model"], "methods": methods})
    assert "77 places" in text and "one frame in 3" in text and "a model" in text
    for method, recalls in methods.items():
        (line,) = (t for t in text.splitlines() if t.startswith(f"| {method} |"))
        shares = [f"{100 * share:.1f}" for share in recalls.values()]
        assert line.replace("*", "").split("|")[2] == f" {' / '.join(shares)} "


def test_what_trains_for_hours_is_left_out_until_it_is_named(files, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "SECTIONS", ("town", "ablation"))
    monkeypatch.setattr(accuracy, "section", {"town": files, "ablation": files}.__getitem__)
    accuracy.main([])
    assert list(json.loads(accuracy.FIGURES.read_text())) == ["town"]
    assert "ablation: skipped" in capsys.readouterr().out
    accuracy.main(["ablation"])
    assert list(json.loads(accuracy.FIGURES.read_text())) == ["town", "ablation"]


def test_the_accuracy_page_is_made_of_the_stored_figures_alone(files):
    accuracy.main(["town"])
    written = accuracy.PAGE.read_text()
    assert "x = 1" in written
    assert accuracy.page(json.loads(accuracy.FIGURES.read_text())) == written
    accuracy.PAGE.unlink()
    files.measure = None
    accuracy.main(["--page-only"])
    assert accuracy.PAGE.read_text() == written


def test_the_shipped_page_is_made_of_the_shipped_figures():
    stored = ROOT / accuracy.FIGURES
    if not stored.exists():
        pytest.skip("not measured: make bench-accuracy")
    assert accuracy.page(json.loads(stored.read_text())) == (ROOT / accuracy.PAGE).read_text()


@pytest.mark.parametrize("outcome", [DatasetError("no data"), ModuleNotFoundError("town"), {}])
def test_a_section_that_cannot_be_measured_keeps_its_old_figures(files, capsys, outcome):
    def measure():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    accuracy.main(["town"])
    before = accuracy.FIGURES.read_text()
    files.measure = measure
    accuracy.main(["town"])
    assert accuracy.FIGURES.read_text() == before and "x = 1" in accuracy.PAGE.read_text()
    assert "town: skipped" in capsys.readouterr().out


def test_an_unknown_section_is_refused_with_the_names_of_all(files, capsys):
    with pytest.raises(SystemExit):
        accuracy.main(["towm"])
    assert "towm" in (told := capsys.readouterr().err) and "gardens_point" in told


def test_the_models_page_tells_what_the_shipped_models_tell():
    assert models.PAGE.read_text() == models.page()


def test_every_shipped_model_names_its_data_losses_seconds_and_commit():
    for header in Path("models").glob("*/model.json"):
        training = json.loads(header.read_text())["training"]
        assert all(training[key] for key in ("data", "losses", "seconds", "commit", "machine"))
        assert training["validation"]["history"]


def test_the_ablation_changes_the_losses_alone():
    recipe = load_config(ablation.RECIPES["the paper's encoder"])
    configs = [ablation.row_config(recipe, row, Path("x/model")) for row in ablation.ROWS.values()]
    for config, row in zip(configs, ablation.ROWS.values(), strict=True):
        assert config.stages[0].losses.on() == row.losses
        config.stages = []
    assert all(config == configs[0] for config in configs)


def test_the_ablation_section_contains_every_figure():
    pose = Transform(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    figures = dict.fromkeys(CONDITIONS, score([pose], [pose]).to_json())
    table = {"translation_steps": 12, "seed": 3, "rows": {"+ FCL": figures}}
    results = {"steps": 45, "tables": {"one": table}, "shipped": "M", "shipped rows": {}}
    page = ablation.render(results)
    assert all(text in page for text in ("12 steps", "45 steps", "seed (3)", "+ FCL | 100.0"))


def test_the_remedies_section_contains_every_figure():
    page = remedies.render({"shifts": [0.0, 0.15], "queries": 7, "rows": {"a": [0.5, 0.25]}})
    assert all(text in page for text in ("7 night tiles", "15 % aside", "50.0", "25.0"))


def test_remedies_of_identical_features_find_every_tile_whatever_the_setting():
    images = torch.randn(6, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    places = np.zeros((6, 11))
    places[:, 0] = range(6)
    places[:, 9:] = 1.0
    places[:, 6] = 1.0
    views = ValidationSet({"day": images.repeat(2, 1, 1, 1), "night": images}, {}, "day", 1.0, 1.0)
    views.places.update(day=np.concatenate([places, places]), night=places)
    encoders = dict.fromkeys(("day", "night"), torch.nn.Identity())
    found = remedies.recalls(encoders, encoders, views)
    assert set(found.values()) == {1.0}
