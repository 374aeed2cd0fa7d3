# SPDX-License-Identifier: Apache-2.0
"""Files of evaluations, maps and data sets that were edited by hand: refused by file and key."""

from __future__ import annotations

import shutil

import pytest
from support.commands import COMMANDS
from support.faults import edit_json, fault_of
from support.maps import START_S, save_tiny_map

from disam_ros.cli import main
from disam_ros.errors import DatasetError
from disam_ros.evaluation.results import read_results
from disam_ros.models.model import load_model


@pytest.fixture(scope="module")
def sound(inputs, tmp_path_factory):
    """What the commands read, an evaluation, and a map that knows its place."""
    root = shutil.copytree(inputs, tmp_path_factory.mktemp("sound") / "inputs")
    assert main(COMMANDS["evaluate"].line(root, root / "evaluation")) == 0
    save_tiny_map(root / "placed", load_model(root / "model"), 6, place=(48.0, 11.0))
    return root


RESULTS = [  # one of each kind: all values are checked by the same code
    (lambda v: v.update(criteria=None), "'criteria' expects an object"),
    (lambda v: v["criteria"].update(thresholds=[["a", 1]]), "'thresholds' expects"),
    (lambda v: v["conditions"].update(day=None), "'day': expected an object with the keys"),
    (lambda v: v["overall"]["metrics"].update(median_error_m="x"), "'median_error_m' expects a f"),
    (lambda v: v["overall"]["latency_ms"]["total"].update(p50="x"), "'p50' expects a finite"),
    (lambda v: v["frames"].update(error_m=[1.0]), "columns of one length"),
    (lambda v: v["frames"].update(matched_id=["x"] * 12), "'matched_id' expects a list"),
]


@pytest.mark.parametrize(("change", "words"), RESULTS)
def test_results_of_an_evaluation_are_refused_by_key(sound, tmp_path, change, words):
    path = tmp_path / "results.json"
    shutil.copy(sound / "evaluation" / "results.json", path)
    edit_json(path, change)
    with pytest.raises(DatasetError, match=f"results.json of `disam evaluate`: .*{words}"):
        read_results(path)


def test_settings_of_a_history_that_cannot_be_are_refused_by_file(sound, tmp_path, capsys):
    shutil.copytree(sound / "map", tmp_path / "map")
    edit_json(
        tmp_path / "map/map.json",
        lambda v: v["history"][0]["settings"].update(keyframe_distance="x"),
    )
    line = "map extend {w}/map --dataset {s}/data --model {s}/model --output {w}/out"
    fault = fault_of(capsys, line.format(w=tmp_path, s=sound).split())
    assert f"{tmp_path}/map/map.json" in fault and "'keyframe_distance' expects" in fault


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(range(START_S, START_S + 13), "within 1 s, over 0 m"), (range(13), "0 images of")],
)
def test_fixes_that_do_not_move_or_are_of_another_time_turn_no_map(
    sound, tmp_path, capsys, seconds, words
):
    rows = [f"{second * 10**9},48,11\n" for second in seconds]
    (tmp_path / "fix.csv").write_text("stamp_ns,latitude,longitude\n" + "".join(rows))
    line = "map align {s}/placed --fixes {w}/fix.csv --output {w}/out"
    fault = fault_of(capsys, line.format(w=tmp_path, s=sound).split())
    assert words in fault and "are they of this drive and clock?" in fault
    assert not (tmp_path / "out").exists()


def test_a_negative_number_with_an_exponent_is_a_value_and_no_option(sound, tmp_path, capsys):
    line = "map crop {s}/placed --polygon -1e2 -1e2 1e2 -1e2 0 1E+2 --output {w}/out"
    assert main(line.format(s=sound, w=tmp_path).split()) == 0
    assert "6 of 6 images" in capsys.readouterr().out
