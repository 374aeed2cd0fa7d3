# SPDX-License-Identifier: Apache-2.0
"""Files of evaluations, maps and data sets that were edited by hand: refused by file and key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.commands import COMMANDS
from support.data import save_tiny_model
from support.faults import edit_json
from support.maps import START_S, save_tiny_map

from disam_ros.cli import main
from disam_ros.models.model import load_model


@pytest.fixture(scope="module")
def sound(inputs, tmp_path_factory):
    """What the commands read, an evaluation, and a map that knows its place."""
    root = shutil.copytree(inputs, tmp_path_factory.mktemp("sound") / "inputs")
    assert main(COMMANDS["evaluate"].line(root, root / "evaluation")) == 0
    save_tiny_model(root / "model_2")
    save_tiny_map(root / "placed", load_model(root / "model_2"), 6, place=(48.0, 11.0))
    return root


def fault_of(capsys, line: str, **folders: Path) -> str:
    """The one line with which a command ends in status 1."""
    capsys.readouterr()
    assert main(line.format(**folders).split()) == 1
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.rstrip("\n").splitlines()[-1]


COMPARE = "compare {w}/evaluation {s}/evaluation"
PRUNE = "map prune {s}/map --used {w}/evaluation --output {w}/out"
DAY = "conditions", "day"
RESULTS = {
    "no criteria": (("criteria",), None, "'criteria' expects an object", COMPARE),
    "thresholds of text": (("criteria", "thresholds"), [["a", 1]], "'thresholds' expects", COMPARE),
    "conditions in a list": (("conditions",), [], "'conditions' expects an object", COMPARE),
    "a condition of nothing": (DAY, None, "'day': expected an object with the keys", COMPARE),
    "no metrics": ((*DAY, "metrics"), None, "'day': 'metrics' expects an object", COMPARE),
    "a median in words": (
        (*DAY, "metrics", "median_error_m"),
        "x",
        "'median_error_m' expects a finite number",
        COMPARE,
    ),
    "latencies in a list": ((*DAY, "latency_ms"), [], "'latency_ms' expects an object", COMPARE),
    "a latency in words": (
        (*DAY, "latency_ms", "total", "p50"),
        "x",
        "'p50' expects a finite",
        COMPARE,
    ),
    "overall of nothing": (("overall",), None, "'overall' expects an object", COMPARE),
    "a short column": (("frames", "error_m"), [1.0], "columns of one length", COMPARE),
    "a column of text": (("frames", "error_m"), "x" * 12, "'error_m' expects a list", COMPARE),
    "no column": (("frames", "error_m"), None, "'error_m' expects a list", COMPARE),
    "an error in words": (("frames", "error_m", 0), "x", "'error_m' expects a list", COMPARE),
    "a stamp in a list": (("frames", "stamp_ns", 0), [], "'stamp_ns' expects a list", COMPARE),
    "a map image in words": (("frames", "matched_id", 0), "x", "'matched_id' expects", PRUNE),
    "a short column of images": (("frames", "matched_id"), [1], "columns of one length", PRUNE),
}


def put(values, path, value):
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_an_evaluation_are_refused_by_key(sound, tmp_path, capsys, name):
    path, value, words, line = RESULTS[name]
    shutil.copytree(sound / "evaluation", tmp_path / "evaluation")
    edit_json(tmp_path / "evaluation/results.json", lambda values: put(values, path, value))
    fault = fault_of(capsys, line, w=tmp_path, s=sound)
    assert "results.json is not a results.json of `disam evaluate`: " in fault and words in fault


PLACES = {
    "a latitude beyond the poles": (("latitude",), 1e308, "expects latitude and longitude in"),
    "a longitude beyond 180°": (("longitude",), 181, "expects latitude and longitude in"),
}
MAPS = {
    "a history without operations": (
        ("history", 0, "operation"),
        None,
        "'operation' expects a tex",
    ),
    "one name for two cameras": (("camera_names",), ["front"] * 2, "'camera_names' expects a name"),
    "a revision before the first": (("revision",), -1, "'revision' expects a whole number from 1"),
    "no name for a camera": (("camera_names",), [], "'camera_names' expects a name"),
}
LOCALIZE = "localize --dataset {w}/data --map {w}/map --model {s}/model --output {w}/out"
HEADERS = [
    *(("data/dataset.json", *fault) for fault in PLACES.values()),
    *(("map/map.json", *fault) for fault in (PLACES | MAPS).values()),
]


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_a_header_that_cannot_be_is_refused_by_file_and_key(sound, tmp_path, capsys, number):
    name, path, value, words = HEADERS[number]
    for folder in ("data", "map"):
        shutil.copytree(sound / folder, tmp_path / folder)
    edit_json(tmp_path / name, lambda values: put(values, path, value))
    fault = fault_of(capsys, LOCALIZE, w=tmp_path, s=sound)
    assert str(tmp_path / name) in fault and words in fault
    assert not (tmp_path / "out").exists()


def test_settings_of_a_history_that_cannot_be_are_refused_by_file(sound, tmp_path, capsys):
    shutil.copytree(sound / "map", tmp_path / "map")
    settings = ("history", 0, "settings", "keyframe_distance")
    edit_json(tmp_path / "map/map.json", lambda values: put(values, settings, "x"))
    line = "map extend {w}/map --dataset {s}/data --model {s}/model --output {w}/out"
    fault = fault_of(capsys, line, w=tmp_path, s=sound)
    assert f"{tmp_path}/map/map.json" in fault and "'keyframe_distance' expects" in fault


SHAPES = [
    {"type": "GeometryCollection", "geometries": 5},
    {"type": "FeatureCollection", "features": {"a": 1}},
    {"type": "Polygon", "coordinates": "x"},
    [],
]


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_geojson_that_holds_no_polygon_is_refused_by_file(sound, tmp_path, capsys, number):
    (tmp_path / "a.geojson").write_text(json.dumps(SHAPES[number]))
    line = "map crop {s}/placed --geojson {w}/a.geojson --output {w}/out"
    assert f"{tmp_path}/a.geojson holds no Polygon" in fault_of(capsys, line, w=tmp_path, s=sound)


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
    fault = fault_of(capsys, line, w=tmp_path, s=sound)
    assert words in fault and "are they of this drive and clock?" in fault
    assert not (tmp_path / "out").exists()


def test_a_negative_number_with_an_exponent_is_a_value_and_no_option(sound, tmp_path, capsys):
    line = "map crop {s}/placed --polygon -1e2 -1e2 1e2 -1e2 0 1E+2 --output {w}/out"
    assert main(line.format(s=sound, w=tmp_path).split()) == 0
    assert "6 of 6 images" in capsys.readouterr().out
