# SPDX-License-Identifier: Apache-2.0
"""Laws of what the accuracy page measures."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.accuracy import gardens_point, kitti, nordland
from disam_ros.domains.domain import Domain
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ("section", "name"),
    [(gardens_point, "day_left"), (nordland, "rides"), (kitti, "sequences")],
)
def test_missing_data_are_named(tmp_path, section, name):
    with pytest.raises(DatasetError, match=name):
        section.measure(tmp_path / "rides.npz")


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
    recalls = nordland.model_recalls(load_model(tmp_path / "model"), ride, ride, "day", "day")
    assert recalls == {"R@1": 1.0, "R@5": 1.0}


def test_every_shipped_model_names_its_origin_and_the_models_page_its_commit():
    page = (ROOT / "docs/models.md").read_text()
    for header in (ROOT / "models").glob("*/model.json"):
        training = json.loads(header.read_text())["training"]
        assert all(training[key] for key in ("data", "losses", "seconds", "commit", "machine"))
        assert training["validation"]["history"]
        assert f"`{training['commit'][:12]}`" in page
