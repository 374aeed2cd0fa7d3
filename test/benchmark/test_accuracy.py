# SPDX-License-Identifier: Apache-2.0
"""Laws of what the accuracy page measures."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.accuracy import gardens_point, kitti, nordland
from benchmark.research import ablation, learning, losses
from benchmark.research.page import PAGE
from disam_ros.domains.domain import Domain
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.models.descriptor import descriptor_shapes
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig
from training.recipes import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures():
    """Six different scenes of blurred noise, uint8 RGB [120, 160, 3]."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 120, 160, 3), dtype=np.uint8)
    return [cv2.normalize(cv2.GaussianBlur(n, (0, 0), 3), None, 0, 255, 32) for n in noise]


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


def test_missing_nordland_data_is_named(tmp_path):
    with pytest.raises(DatasetError, match="rides"):
        nordland.measure(tmp_path / "rides.npz")


def test_missing_kitti_data_is_named(tmp_path):
    with pytest.raises(DatasetError, match="sequences"):
        kitti.measure(tmp_path)


def test_kittis_odometry_drifts_by_one_percent_of_the_way():
    truth = [Transform.from_xyz_rpy([2.0 * k, 1.0, 0.0, 0.0, 0.0, 0.0]) for k in range(11)]
    moved = kitti.drifting(truth)[-1]
    assert moved.translation == pytest.approx([20.2, 0.0, 0.0])


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


def test_every_shipped_model_names_its_origin_and_the_models_page_its_commit():
    page = (ROOT / "docs/models.md").read_text()
    for header in (ROOT / "models").glob("*/model.json"):
        training = json.loads(header.read_text())["training"]
        assert all(training[key] for key in ("data", "losses", "seconds", "commit", "machine"))
        assert training["validation"]["history"]
        assert f"`{training['commit'][:12]}`" in page


def test_the_ablation_changes_the_losses_alone(tmp_path):
    recipe = load_config(ablation.RECIPE)
    configs = {name: ablation.row_config(recipe, name, 1, tmp_path) for name in ablation.ROWS}
    for name, row in ablation.ROWS.items():
        config = configs[name]
        assert config.stages[0].losses.on() == row.losses and config.network.sharing == row.sharing
        start = ablation.translation(recipe, row.sharing, 1, tmp_path)
        assert config.initial.startswith(start.output) and start.seed == config.seed == 1
        config.stages, config.output = [], ""
    apart = [config for name, config in configs.items() if name != ablation.SHARED]
    assert all(config == apart[0] for config in apart)


def test_the_ablation_compares_features_that_are_not_pooled():
    network = load_config(ablation.RECIPE).network.build()
    for _, rows, columns in descriptor_shapes(network, ablation.WHOLE).values():
        assert (rows, columns) == network.feature_size


def test_rows_of_the_papers_losses_add_one_loss_or_change_the_margin(tmp_path):
    for name, row in losses.ROWS.items():
        config = losses.row_config(name, 1, tmp_path, tmp_path / "data")
        (stage,) = config.stages
        assert config.seed == 1 and config.triplets.form == "relative"
        assert f"{tmp_path}/data/towns/101" in config.data and "webcams:data/tilde" in config.data
        assert config.network.sharing == row.sharing
        if row.below and row.sharing == "none":
            below = losses.row_config(row.below, 1).stages[0].losses.on()
            assert len(stage.losses.on()) == len(below) + 1 and set(below) < set(stage.losses.on())
    constant, adaptive = losses.ROWS[losses.CONSTANT], losses.ROWS[losses.ADAPTIVE]
    assert constant.losses == adaptive.losses and constant.adaptive != adaptive.adaptive


def test_a_finished_row_is_read_and_not_trained_again(tmp_path, monkeypatch):
    config = losses.row_config(losses.CONTRASTIVE, 0, tmp_path)
    folder = Path(config.output)
    folder.mkdir(parents=True)
    (folder / learning.FIGURES).write_text('{"trained": {"mean": 1.0}}')
    monkeypatch.setattr(learning, "Training", None)
    assert learning.run_figures(config, {}, dict) == {"trained": {"mean": 1.0}}


def test_the_losses_are_measured_for_every_seed_and_say_how_far_they_are(
    tmp_path, monkeypatch, capsys
):
    def figures(config, start, recall):
        recalls = {"night": 50.0 + config.seed, "mean": 60.0 + config.seed}
        terms = {name: {"gradient_share": 0.5} for name in config.stages[0].losses.on()}
        return {"trained": recalls, "averaged": recalls, "terms": terms, "seconds": 1.0}

    recall = {"night": 40.0, "mean": 50.0}
    judge = SimpleNamespace(recall=lambda state: recall, start=dict)
    monkeypatch.setattr(losses, "Judge", lambda data: judge)
    monkeypatch.setattr(losses, "run_figures", figures)
    results = losses.measure(tmp_path, tmp_path, (0, 1))
    assert all(set(found) == {"0", "1"} for found in results["rows"].values())
    assert results["claims"]["+ FCL over contrastive"]["trained"] == [0.0, "within the seeds"]
    said = capsys.readouterr().out
    assert "1/16: contrastive, seed 0\n" in said and "min left" in said
    text = PAGE.render(
        {"losses": {"measured_under": "x", "stale": False, "results": results}}, only="losses"
    )
    assert "| contrastive | 50.5 (50.0–51.0) | 60.5 (60.0–61.0) | 60.5 (60.0–61.0) |" in text
