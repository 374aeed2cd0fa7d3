# SPDX-License-Identifier: Apache-2.0
import json

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
pytest.importorskip("matplotlib", reason="not installed: pip install -e '.[demo]'")

from demo.run_demo import main


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_ends_with_figures_above_chance_and_a_picture(tmp_path):
    assert main(["--rate", "15", "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "demo.png").stat().st_size > 100_000
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["conditions"]) == {"winter_snow", "night"}
    for condition, result in results["conditions"].items():
        assert result["node"]["domain"] == condition
        assert result["node"]["poses_published"] > 0
        assert result["node"]["latency_p50_ms"] > 0
        assert result["disam_ros"]["recall"]["R@1"] > 5 * result["chance"]["recall"]["R@1"]
        assert set(result["disam_ros"]["within"]) == {"0.25 m 2°", "0.5 m 5°", "5 m 10°"}
        assert result["nearest map image"]["recall"]["R@1"] == 1.0
