# SPDX-License-Identifier: Apache-2.0
"""Laws of the benchmark of a wrong domain."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.data import camera_pose

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
pytest.importorskip("matplotlib", reason="not installed: pip install matplotlib")

from benchmark.accuracy import drives, photographs, wrong_domain
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from season_town import RenderError

NOON_NS = 1752490800 * 10**9  # 14 July 2025, 11:00 UTC


def at(*places):
    """Poses at these metres along x."""
    return [Transform.from_xyz_rpy([x, 0, 0, 0, 0, 0]) for x in places]


def test_the_chooser_is_scored_by_its_domains_and_blank_queries_count_as_wrong():
    answers = {"day": at(0, 3, 90, 90), "night": [None, *at(90, 90, 30)]}
    result = wrong_domain.scores(at(0, 5, 20, 30), answers, ["day", "day", None, "night"])
    assert result["shares"] == {"day": [0.5, 0.25], "night": [0.25, 0.25], "chooser": [0.75, 0.5]}
    assert result["chosen"] == {"day": 2, "night": 1} and result["queries"] == 4


def test_the_summary_follows_the_shares():
    """In the second condition the chooser picks the worse domain."""
    noon = {"day": [0.91, 0.62], "night": [0.53, 0.34], "chooser": [0.91, 0.62]}
    dusk = {"day": [0.87, 0.58], "night": [0.89, 0.49], "chooser": [0.88, 0.5]}
    summary = wrong_domain.summary({"noon": {"shares": noon}, "dusk": {"shares": dusk}})
    assert summary["better"] == [
        [["night", pytest.approx(0.01), "dusk"]],
        [["day", pytest.approx(0.08), "dusk"]],
    ]
    assert summary["worst"] == [pytest.approx(0.38), "night", "noon"]
    assert summary["fixed"] == "day" and summary["mean"]["day"] == pytest.approx([0.89, 0.6])


def test_each_domain_answers_and_the_chooser_takes_the_clocks(
    dataset, model, tmp_path, builder_config
):
    source = open_dataset(dataset.directory)
    place_map = build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
    noon = [replace(i, record=replace(i.record, stamp_ns=NOON_NS)) for i in source.images][:4]
    ride = SimpleNamespace(items=noon, truth=[camera_pose(k) for k in range(4)])
    result = wrong_domain.row(localizer, ride)
    assert result["shares"]["day"] == [1.0, 1.0]  # map images are found at their own poses
    assert set(result["shares"]) == {"day", "night", "chooser"}
    assert result["chosen"] == {"day": 4} and result["shares"]["chooser"] == [1.0, 1.0]


def test_without_opengl_the_shipped_drives_remain(monkeypatch, tmp_path):
    def refuse(*_):
        raise RenderError("no OpenGL here")

    monkeypatch.setattr(drives, "write_drive", refuse)
    assert [condition for condition, _ in drives.town_drives(tmp_path)] == ["winter_snow", "night"]


def test_encoders_of_equal_weights_share_a_row_and_the_maps_is_the_first():
    start, night = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    encoders = {"night": night, "rain": copy.deepcopy(start), "summer_day": start}
    model = SimpleNamespace(domain_names=lambda: list(encoders), fine=encoders)
    assert photographs.rows(model) == {"summer_day = rain": "summer_day", "night": "night"}
