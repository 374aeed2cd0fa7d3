# SPDX-License-Identifier: Apache-2.0
"""Rows of the experiments differ in what their tables compare, and in nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.data import texture
from support.training_data import write_drive, write_image

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.networks import load_recipe, recipe_of
from benchmark.research import (
    ablation,
    fine_stage,
    losses,
    new_condition,
    new_condition_webcams,
    restyled,
    webcam_encoders,
)
from benchmark.research.experiment import Experiment
from benchmark.research.long_ablation import LONG
from benchmark.research.offline_town import REFERENCE, Town
from benchmark.research.page import PAGE
from disam_ros.datasets.dataset import Dataset
from disam_ros.geometry import Transform
from disam_ros.image import read
from disam_ros.models.similarity import descriptor_shapes
from training.data.sources import find_photos
from training.disam.networks import create_networks
from training.engine.checkpoints import save_stage


@pytest.mark.parametrize("size", [ablation.SHORT, LONG], ids=["short", "long"])
def test_the_ablation_changes_the_losses_alone(tmp_path, size):
    recipe = load_recipe(ablation.RECIPE)
    judge = ablation.Judge(recipe)
    study = ablation.experiment(recipe, size, tmp_path, judge)
    first = ablation.translations(recipe, size, tmp_path, judge)
    configs = {name: study.config(name, 1) for name in size.rows}
    for name, config in configs.items():
        row, (stage,) = ablation.ROWS[name], config.stages
        assert stage.losses.on() == row.losses and config.network.sharing == row.sharing
        assert stage.steps == size.steps
        start = first.config(row.sharing, 1)
        assert config.initial.startswith(start.output) and start.seed == config.seed == 1
        assert start.stages[0].steps == size.translation
        config.stages, config.output = [], ""
    apart = [config for name, config in configs.items() if name != ablation.SHARED]
    assert all(config == apart[0] for config in apart)


def test_a_curve_has_a_point_by_both_metrics_at_each_validation_and_a_repeated_step_once(tmp_path):
    judge = ablation.Judge(load_recipe(ablation.RECIPE))
    shades = torch.linspace(-0.5, 0.9, 3)[:, None, None, None]
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * shades
    poses = [Transform(np.array([10.0 * k, 0.0, 0.0]), np.array([0, 0, 0, 1.0])) for k in range(3)]
    queries = {condition: images[1:] for condition in ablation.CONDITIONS}
    judge.town = Town(images, poses, queries, dict.fromkeys(queries, poses[1:]))
    encoders = dict.fromkeys((REFERENCE, *queries), lambda batch: batch)
    for step in (0, 500, 500):
        judge.record(tmp_path, step, encoders)
    study = Experiment("ablation", tmp_path, {"row": "."}, None, None)
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


def test_rows_of_the_papers_losses_add_one_loss_or_change_the_margin(tmp_path):
    for name, row in losses.ROWS.items():
        config = losses.row_recipe(name, tmp_path)
        (stage,) = config.stages
        assert config.triplets.form == "relative" and config.network.sharing == row.sharing
        assert f"{tmp_path}/towns/101" in config.data and "webcams:data/tilde" in config.data
        if row.below and row.sharing == "none":
            below = losses.row_recipe(row.below).stages[0].losses.on()
            assert len(stage.losses.on()) == len(below) + 1 and set(below) < set(stage.losses.on())
    constant, adaptive = losses.ROWS[losses.CONSTANT], losses.ROWS[losses.ADAPTIVE]
    assert constant.losses == adaptive.losses and constant.adaptive != adaptive.adaptive


def test_encoders_of_webcams_differ_by_what_they_share_and_see_no_test_camera(tmp_path):
    configs = {name: webcam_encoders.row_recipe(name, tmp_path) for name in webcam_encoders.ROWS}
    assert {config.network.sharing for config in configs.values()} == {"none", "trunk", "all"}
    for config in configs.values():
        assert config.data == [f"webcams:{tmp_path}/tilde", f"webcams:{tmp_path}/dnim/train"]
        config.network.sharing = ""
    assert all(config == configs[losses.CONTRASTIVE] for config in configs.values())


def test_the_papers_losses_have_a_table_of_all_seeds_with_shares(tmp_path, monkeypatch):
    def figures(study, row, seed):
        gain = 5.0 if row == losses.FCL else 0.0
        recall = dict.fromkeys(start, 50.0 + seed + gain) | {"mean": 60.0 + seed + gain}
        terms = {name: {"gradient_share": 0.75} for name in losses.ROWS[row].losses}
        return {"trained": recall, "averaged": recall, "terms": terms, "seconds": 1.0}

    columns = ("night", "winter_snow", "night tiles", "winter_snow tiles")
    start = dict.fromkeys(columns, 40.0) | {"mean": 50.0}
    judge = SimpleNamespace(recall=lambda state: start, start={})
    monkeypatch.setattr(losses, "Judge", lambda recipe, data: judge)
    monkeypatch.setattr(Experiment, "figures", figures)
    results = losses.measure((0, 1), runs=tmp_path, data=tmp_path)
    assert all(set(by_seed) == {"0", "1"} for by_seed in results["rows"].values())
    section = {"measured_under": "x", "stale": False, "results": results}
    text = PAGE.render({"losses": section}, only="losses")
    night = "50.5 (50.0–51.0)"
    assert f"| contrastive | averaged | {' | '.join([night] * 4)} |" in text
    assert "contrastive 75.0" in text


def test_rows_of_a_fine_stage_start_from_the_coarse_encoders_and_have_its_steps(tmp_path):
    judge = SimpleNamespace()
    first = fine_stage.coarse_stage(judge, tmp_path)
    coarse = first.config(fine_stage.COARSE, 2)
    study = fine_stage.fine_stages(judge, first)
    for name in fine_stage.ROWS:
        config = study.config(name, 2)
        assert config.initial == f"{coarse.output}/stages/fine.safetensors"
        assert config.stages[0].steps == fine_stage.STEPS["fine"] and config.data == coarse.data
        near = name != fine_stage.CONTROL
        assert (config.aligned.negative_radius < 1) == near == (config.aligned.neighbourhood > 0)
    assert coarse.aligned.negative_radius == 10


@pytest.fixture
def translation(tmp_path):
    """A translation that was trained already."""
    stages = [{"name": "translation", "losses": {"gan": 1}}]
    network = {"width": 2, "encoder_blocks": 1, "decoder_blocks": 1, "image_size": [32, 32]}
    domains = ["summer_day", "winter_snow", "night"]
    config = recipe_of({"network": network, "domains": domains, "stages": stages})
    config.output = str(tmp_path / "translation")
    networks = create_networks(config.network.build(), domains, True, 0)
    save_stage(tmp_path / "translation", "translation", networks.state())
    return SimpleNamespace(figures=lambda row, seed: {}, config=lambda row, seed: config)


@pytest.fixture
def towns(tmp_path):
    for town in new_condition.TOWNS:
        for condition in ("summer_day", "night", "winter_snow"):
            write_drive(tmp_path / "towns" / town / condition, condition, 3)
    return tmp_path


@pytest.mark.parametrize("condition", new_condition.CONDITIONS)
def test_arms_differ_by_what_restyles_and_poses_of_the_condition_are_used_by_the_ceiling_alone(
    towns, translation, monkeypatch, condition
):
    monkeypatch.setattr(new_condition, "town_translation", lambda *_: translation)
    judge = new_condition.Judge(new_condition.recipe_for(condition), condition, read=None)
    study = new_condition.arms(judge, condition, towns / "new", towns)
    configs = {arm: study.config(arm, 1) for arm in restyled.ARMS}
    for arm, config in configs.items():
        assert config.domains == ["summer_day", condition] and config.frozen == ["summer_day"]
        uses = any(f"/towns/101/{condition}" in entry for entry in config.data)
        assert uses == (arm == restyled.TRUE)
        config.data, config.output = [], ""
    assert all(config == configs[restyled.TRUE] for config in configs.values())


@pytest.fixture
def webcams(tmp_path, monkeypatch):
    """Two cameras by day and night, one by day alone."""
    monkeypatch.setattr(new_condition_webcams, "IMAGES", 2)
    for camera, darkest in (("a", 8), ("b", 8), ("day", 1)):
        for k in range(6):
            picture = texture(k) // (darkest if k % 2 else 1)
            write_image(tmp_path / "dnim" / "train" / camera / f"{k}.jpg", picture)
    return tmp_path


def test_webcams_arms_share_their_days_and_the_ceiling_alone_has_the_nights(
    webcams, translation, monkeypatch
):
    data = webcams / "dnim"
    monkeypatch.setattr(new_condition_webcams, "webcam_translation", lambda *_: translation)
    assert list(new_condition_webcams.cameras(data)) == ["a", "b"]
    judge = new_condition.Judge(new_condition.recipe_for("night"), "night", read=None)
    study = new_condition_webcams.arms(judge, webcams / "runs", data)
    configs, means = {}, {}
    for arm in restyled.ARMS:
        configs[arm] = config = study.config(arm, 1)
        assert config.domains == ["summer_day", "night"] and config.frozen == ["summer_day"]
        photos = find_photos(config.data)
        assert len(photos) == 2 * 2 * 2 and all(photo.tiled for photo in photos)
        means[arm] = [
            np.mean([read(photo.path).mean() for photo in photos if photo.domain == domain])
            for domain in config.domains
        ]
        config.data, config.output = [], ""
    assert all(config == configs[restyled.TRUE] for config in configs.values())
    assert len({day for day, _ in means.values()}) == 1
    for arm in (restyled.TRUE, restyled.COLOUR):
        assert means[arm][1] < means[arm][0] / 3
    assert means[restyled.PHOTOMETRIC][1] > means[restyled.PHOTOMETRIC][0] / 3


def test_restyled_drives_keep_poses_and_stamps_and_are_written_once(towns):
    source, target = towns / "towns" / "101" / "summer_day", towns / "x"
    restyled.write_restyled(source, target, "night", restyled.photometrically, 0)
    old, new = Dataset(source), Dataset(target)
    assert new.domains() == ["night"]
    for a, b in zip(old.records, new.records, strict=True):
        assert a.stamp_ns == b.stamp_ns
        np.testing.assert_allclose(a.map_from_camera.translation, b.map_from_camera.translation)
        np.testing.assert_allclose(a.map_from_camera.rotation, b.map_from_camera.rotation)
    before = new.path(new.records[0]).read_bytes()
    restyled.write_restyled(source, target, "night", lambda *_: 1 / 0, 0)
    assert new.path(new.records[0]).read_bytes() == before


def test_colour_transfer_gives_the_brightness_of_the_other_image_and_leaves_itself_alone(tmp_path):
    dark = (texture(1) // 3).astype(np.uint8)
    write_image(tmp_path / "dark.png", dark)
    transfer = restyled.ColourTransfer([tmp_path / "dark.png"])
    darker = transfer(texture(2), np.random.default_rng(0))
    np.testing.assert_allclose(darker.mean((0, 1)), dark.mean((0, 1)), atol=4.0)
    np.testing.assert_allclose(darker.std(), dark.std(), atol=4.0)
    same = transfer(dark, np.random.default_rng(0))
    assert np.abs(same.astype(int) - dark).max() <= 1
