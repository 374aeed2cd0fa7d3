# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
from support.short_drives import cut_drives

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from PIL import Image

from demo import animation
from disam_ros.cli import main
from disam_ros.demo import drives, run

ROOT = Path(__file__).parents[1]
MAX_BYTES = 3_000_000  # of the README's moving picture
MAPPED, SECONDS = 160, 24.0  # images of the map and length of the drives: some 150 m of the route


@pytest.fixture
def short_drives(tmp_path, monkeypatch):
    """The demo on the first quarter of its drives."""
    cut_drives(drives.DATA, tmp_path / "data", MAPPED, SECONDS)
    for module in (drives, run, animation):
        monkeypatch.setattr(module, "DATA", tmp_path / "data")
        monkeypatch.setattr(module, "REFERENCE", tmp_path / "data" / "reference")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_with_figures_above_chance_and_a_picture(short_drives, tmp_path):
    assert main(["demo", "--rate", "15", "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "demo.png").stat().st_size > 100_000
    evaluation = tmp_path / "out" / "evaluation"
    assert "winter_snow" in (evaluation / "report.html").read_text()
    results = json.loads((evaluation / "results.json").read_text())
    assert set(results["conditions"]) == {"winter_snow", "night"}
    for condition, result in results["conditions"].items():
        run = results["runs"][condition]
        missing = run["dropped"] + run["lost in transport"]  # fast as it is sent here
        assert run["answered"] + missing == run["images sent"] > 50
        assert result["domains"] == {condition: run["answered"]}
        assert result["metrics"]["recall"]["R@1"] > 0.5 * result["metrics"]["answered"]
        assert set(result["metrics"]["within"]) == {"0.25 m 2°", "0.5 m 5°", "5 m 10°"}
        assert result["nearest_map_image"]["recall"]["R@1"] == 1.0
    moving = tmp_path / "night.webp"
    assert animation.main(["--evaluation", str(evaluation), "--output", str(moving)]) == 0
    assert moving.stat().st_size <= MAX_BYTES
    with Image.open(moving) as picture:
        assert picture.n_frames > 15


def test_the_picture_of_the_readme_is_small():
    assert (ROOT / animation.OUTPUT).stat().st_size <= MAX_BYTES


def test_options_of_a_page_that_the_demo_does_not_show_are_refused(tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["demo", "--port", "0", "--output", str(output)]) == 1
    assert "--live" in capsys.readouterr().err
    assert not output.exists()


def test_without_a_demo_the_animation_says_what_to_run(tmp_path, capsys):
    assert animation.main(["--evaluation", str(tmp_path / "nowhere")]) == 1
    assert "run `make demo` first" in capsys.readouterr().err
