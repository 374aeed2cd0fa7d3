# SPDX-License-Identifier: Apache-2.0
"""Rows of the experiments differ in what their tables compare, and in nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.data import texture
from support.training_data import write_image

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.networks import load_recipe, recipe_of
from benchmark.research import ablation, new_condition, restyled, webcam_encoders
from benchmark.research.curves import draw_curves, line_of
from benchmark.research.experiment import Experiment
from benchmark.research.offline_town import REFERENCE, Town
from benchmark.research.page import PAGE
from disam_ros.geometry import Transform
from disam_ros.image import read
from disam_ros.models.similarity import descriptor_shapes
from training.data.sources import find_photos
from training.disam.networks import create_networks
from training.engine.checkpoints import save_stage


def test_the_ablation_changes_the_losses_alone(tmp_path):
    recipe = load_recipe(ablation.RECIPE)
    judge = ablation.Judge(recipe)
    study = ablation.experiment(recipe, tmp_path, judge)
    start = ablation.translations(recipe, tmp_path, judge).config(ablation.FIRST, 1)
    configs = {name: study.config(name, 1) for name in ablation.ROWS}
    for name, config in configs.items():
        (stage,) = config.stages
        assert stage.losses.on() == ablation.ROWS[name].losses and stage.steps == ablation.STEPS
        assert config.initial.startswith(start.output) and start.seed == config.seed == 1
        config.stages, config.output = [], ""
    assert all(config == configs[ablation.FCL] for config in configs.values())


def test_a_curve_has_a_point_by_both_metrics_at_each_validation_and_a_repeated_step_once(tmp_path):
    judge = ablation.Judge(load_recipe(ablation.RECIPE))
    shades = torch.linspace(-0.5, 0.9, 3)[:, None, None, None]
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * shades
    poses = [Transform(np.array([10.0 * k, 0.0, 0.0]), np.array([0, 0, 0, 1.0])) for k in range(3)]
    queries = {condition: images[1:] for condition in ablation.CONDITIONS}
    judge.town = Town(images, poses, queries, dict.fromkeys(queries, poses[1:]))
    encoders = dict.fromkeys((REFERENCE, *queries), lambda batch: batch)
    study = Experiment("ablation", tmp_path, {"row": "."}, None, None, point=judge.point)
    for step in (0, 500, 500):
        study.record(tmp_path, step, encoders)
    curve = ablation.curve_of(study, "row", ["0"])["0"]
    assert list(curve) == ["0", "500"] and set(curve["500"]) == set(ablation.METRICS)
    assert all(share == 1.0 for by in curve["500"].values() for share in by.values())
    assert judge.town.chance()["night"]["5 m 10°"] == pytest.approx(1 / 3)


def test_the_ablation_compares_features_that_are_not_pooled():
    network = load_recipe(ablation.RECIPE).network.build()
    for _, rows, columns in descriptor_shapes(network, ablation.WHOLE).values():
        assert (rows, columns) == network.feature_size


def test_a_place_is_found_among_the_candidates_of_the_coarse_stage():
    coarse = np.eye(60, dtype=np.float32)
    queries = coarse[:1], np.float32([[1.0]])
    references = coarse, np.linspace(0.0, 1.0, 60, dtype=np.float32)[:, None]
    assert ablation.ranked(queries, references, "coarse").tolist() == [0]
    assert ablation.ranked(queries, references, "fine").tolist() == [59]
    (best,) = ablation.ranked(queries, references, "coarse-to-fine")
    assert best == np.argsort(-(queries[0] @ coarse.T)[0])[: ablation.CANDIDATES].max()


def test_encoders_of_webcams_differ_by_what_they_share_and_see_no_test_camera(tmp_path):
    rows = webcam_encoders.SHARING
    configs = {name: webcam_encoders.row_recipe(name, tmp_path) for name in rows}
    for name, config in configs.items():
        assert config.network.sharing == rows[name]
        assert config.data == [f"webcams:{tmp_path}/tilde", f"webcams:{tmp_path}/dnim/train"]
        config.network.sharing = ""
    assert all(config == configs[webcam_encoders.EACH] for config in configs.values())


COLUMNS = (webcam_encoders.TILES, *webcam_encoders.DRIVES)


@pytest.mark.parametrize("module", [webcam_encoders, new_condition])
def test_photographs_have_a_table_of_all_rows_and_seeds(tmp_path, monkeypatch, module):
    def figures(study, row, seed):
        recall = dict.fromkeys(COLUMNS, 50.0 + seed)
        curve = {"0": 40.0, "20": 50.0 + seed}
        return {"trained": recall, "averaged": recall, "curve": curve, "seconds": 60.0}

    start = dict.fromkeys(COLUMNS, 40.0)
    judge = SimpleNamespace(
        recall=lambda state: start,
        start={},
        queries=dict.fromkeys(start, 9),
    )
    monkeypatch.setattr(module, "Judge", lambda recipe, data: judge)
    monkeypatch.setattr(Experiment, "figures", figures)
    monkeypatch.setattr(new_condition, "cameras", lambda data: {"a": ([], [])})
    name = module.__name__.split(".")[-1]
    results = module.measure((0, 1), runs=tmp_path, data=tmp_path)
    assert all(set(by_seed) == {"0", "1"} for by_seed in results["rows"].values())
    section = {"measured_under": "x", "stale": False, "results": results}
    text = PAGE.render({name: section}, only=name)
    for row in results["rows"]:
        assert f"| {row} | averaged | {' | '.join(['50.5 (50.0–51.0)'] * 3)} |" in text
    assert "| start | | 40.0 | 40.0 | 40.0 |" in text
    module.draw(results, tmp_path / "picture.png")
    assert read(tmp_path / "picture.png").std() > 0


@pytest.fixture
def translation(tmp_path):
    """A study whose translation was trained already."""
    stages = [{"name": "translation", "losses": {"gan": 1}}]
    network = {"width": 2, "encoder_blocks": 1, "decoder_blocks": 1, "image_size": [32, 32]}
    domains = ["summer_day", "night"]
    config = recipe_of({"network": network, "domains": domains, "stages": stages})
    config.output = str(tmp_path / "translation")
    networks = create_networks(config.network.build(), domains, True, 0)
    save_stage(tmp_path / "translation", "translation", networks.state())
    return SimpleNamespace(figures=lambda row, seed: {}, config=lambda row, seed: config)


@pytest.fixture
def webcams(tmp_path, monkeypatch):
    """Two cameras by day and night, one by day alone."""
    monkeypatch.setattr(new_condition, "IMAGES", 2)
    for camera, darkest in (("a", 8), ("b", 8), ("day", 1)):
        for k in range(6):
            picture = texture(k) // (darkest if k % 2 else 1)
            write_image(tmp_path / "dnim" / "train" / camera / f"{k}.jpg", picture)
    return tmp_path


def test_a_curve_is_drawn_with_the_value_of_every_seed_at_every_step(tmp_path):
    curves = {"0": {"0": [1.0], "20": [2.0]}, "1": {"0": [3.0], "20": [5.0]}}
    line = line_of(curves, lambda point: 10 * point[0])
    assert line == {0: [10.0, 30.0], 20: [20.0, 50.0]}
    draw_curves(tmp_path / "one.png", {"panel": {"a": line}}, "m")
    draw_curves(tmp_path / "two.png", {"panel": {"a": line}, "other": {"a": line}}, "m")
    one, two = (read(tmp_path / name).shape for name in ("one.png", "two.png"))
    assert two[1] == 2 * one[1] and two[0] == one[0]


def test_arms_differ_by_what_restyles_and_the_ceiling_alone_has_the_nights(
    webcams, translation, monkeypatch
):
    monkeypatch.setattr(new_condition, "translations", lambda *_: translation)
    assert list(new_condition.cameras(webcams)) == ["a", "b"]
    study = new_condition.arms(SimpleNamespace(), webcams / "runs", webcams)
    configs, means = {}, {}
    for arm in new_condition.ARMS:
        configs[arm] = config = study.config(arm, 1)
        assert config.domains == ["summer_day", "night"] and config.frozen == ["summer_day"]
        photos = find_photos(config.data)
        styles = 1 if arm == new_condition.TRUE else new_condition.STYLES
        assert len(photos) == 2 * 2 * (1 + styles) and all(photo.tiled for photo in photos)
        means[arm] = [
            np.mean([read(photo.path).mean() for photo in photos if photo.domain == domain])
            for domain in config.domains
        ]
        config.data, config.output = [], ""
    assert all(config == configs[new_condition.TRUE] for config in configs.values())
    assert len({day for day, _ in means.values()}) == 1
    for arm in (new_condition.TRUE, new_condition.COLOUR):
        assert means[arm][1] < means[arm][0] / 3
    assert means[new_condition.PHOTOMETRIC][1] > means[new_condition.PHOTOMETRIC][0] / 3


def test_each_seed_has_a_translator_of_its_own_that_sees_no_test_camera(tmp_path):
    study = new_condition.translations(tmp_path / "runs", tmp_path)
    configs = [study.config(new_condition.TRANSLATED, seed) for seed in new_condition.SEEDS]
    assert [config.seed for config in configs] == [*new_condition.SEEDS]
    assert len({config.output for config in configs}) == len(configs)
    assert all(config.data == [f"webcams:{tmp_path}/dnim/train"] for config in configs)
    assert all(config.network.build().stride == 4 for config in configs)


def test_colour_transfer_gives_the_brightness_of_the_other_image_and_leaves_itself_alone(tmp_path):
    dark = (texture(1) // 3).astype(np.uint8)
    write_image(tmp_path / "dark.png", dark)
    transfer = restyled.ColourTransfer([tmp_path / "dark.png"])
    darker = transfer(texture(2), np.random.default_rng(0))
    np.testing.assert_allclose(darker.mean((0, 1)), dark.mean((0, 1)), atol=4.0)
    np.testing.assert_allclose(darker.std(), dark.std(), atol=4.0)
    same = transfer(dark, np.random.default_rng(0))
    assert np.abs(same.astype(int) - dark).max() <= 1
