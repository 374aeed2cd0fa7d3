# SPDX-License-Identifier: Apache-2.0
"""Laws of `disam evaluate --require`."""

from dataclasses import replace

import numpy as np
import pytest
from support.data import of_single_images

from disam_ros.cli import main
from disam_ros.datasets.sources import open_images
from disam_ros.errors import ConfigError, RequirementError
from disam_ros.evaluation import Criteria, evaluate_drive, judge
from disam_ros.evaluation.requirements import parse_requirements, require
from disam_ros.localization.localizer import Localizer

CRITERIA = Criteria()
MET = [
    "r1@5m>=100",
    "r10 >= 99.5 %",
    "within@0.25m2deg>=100",
    "within@5m10°>=100%",
    "answered>=100, wrong<=0%",
    "median<=0.01m",
    "p50<=100000ms, p99>=0",
    "",
]
NO_REQUIREMENTS = {
    "r1": "no requirement; expected such as",
    "r1>85": "no requirement",
    "r1@5m>=85 percent": "is in %, got 'percent'",
    "p99<=60s": "is in ms, got 's'",
    "nees<=2%": "is in no unit",
    "r2>=85": "first 1, 5, 10 matches",
    "r1@7m>=85": "measured with --recall-distance 7",
    "within@1m45deg>=50": "measured with --threshold 1 45",
    "speed>=5": "no figure 'speed' to require",
}


@pytest.fixture(scope="module")
def evaluation(world):
    localizer = Localizer.open(world / "map", world / "model", of_single_images())
    source = open_images(world / "data", "map")
    drive = evaluate_drive(localizer, source, "drive", show_progress=False)
    return judge(localizer.map, [drive], {"model": "tiny"})


@pytest.mark.parametrize("text", MET)
def test_the_drive_a_map_was_made_of_reaches_all_that_can_be_reached(evaluation, text):
    require(evaluation, parse_requirements(text, CRITERIA))


def test_what_is_not_reached_is_named_with_condition_and_value(evaluation):
    requirements = parse_requirements("r1@5m>=85, wrong>=1%, p50<=0ms", CRITERIA)
    with pytest.raises(RequirementError) as caught:
        require(evaluation, requirements)
    (condition,) = evaluation.conditions
    assert str(caught.value).startswith(
        f"2 requirements are not met: {condition}: wrong>=1%, got 0 %"
    )
    assert "p50<=0ms" in str(caught.value) and "r1@5m" not in str(caught.value)
    with pytest.raises(RequirementError, match=r"^1 requirement is not met: "):
        require(evaluation, requirements[1:2])


@pytest.mark.parametrize("sign", ["<=", ">="])
def test_a_figure_without_data_is_not_reached(evaluation, sign):
    (requirement,) = parse_requirements(f"p99{sign}1", CRITERIA)
    (condition,) = evaluation.conditions.values()
    assert np.isfinite(requirement.figure(condition))
    assert not requirement.is_met(replace(condition, latency_ms={}))


@pytest.mark.parametrize("text", NO_REQUIREMENTS)
def test_what_is_no_requirement_is_refused(text):
    with pytest.raises(ConfigError, match=NO_REQUIREMENTS[text]):
        parse_requirements(text, CRITERIA)


def test_what_is_no_requirement_ends_the_command_before_the_work(tmp_path, capsys):
    line = f"evaluate {tmp_path}/none --map {tmp_path}/none --model outdoor --output {tmp_path}/out"
    assert main([*line.split(), "--require", "r1"]) == 1
    assert NO_REQUIREMENTS["r1"] in capsys.readouterr().err


@pytest.mark.parametrize(("required", "status"), [("answered>=1", 0), ("answered>=1, r1<=1", 1)])
def test_the_evaluation_is_written_whatever_is_required(world, tmp_path, capsys, required, status):
    line = f"evaluate {world}/data --map {world}/map --model {world}/model --output {tmp_path}/out"
    assert main([*line.split(), "--require", required]) == status
    assert (tmp_path / "out" / "results.json").exists()
    assert ("r1<=1, got 100 %" in capsys.readouterr().err) == bool(status)
