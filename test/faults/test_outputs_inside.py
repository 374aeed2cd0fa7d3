# SPDX-License-Identifier: Apache-2.0
"""No command writes into what it reads."""

from __future__ import annotations

import pytest

from disam_ros.cli import main

LINES = {
    "build-map": ("build-map --dataset {w}/data --model {w}/model", ["data", "model"]),
    "extract": ("extract --bag {w}/bag --domain day", ["bag"]),
    "to-bag": ("to-bag --dataset {w}/data", ["data"]),
    "convert": ("convert tum --input {w}/tum --domain day", ["tum"]),
    "aerial": ("aerial --tiles {w}/tiles --poses {w}/data --metres 8", ["tiles", "data"]),
    "evaluate": ("evaluate {w}/data --map {w}/map --model {w}/model", ["data", "map", "model"]),
    "localize": ("localize --dataset {w}/data --map {w}/map --model {w}/model", ["map", "model"]),
    "crop": ("map crop {w}/map --polygon 0 0 9 0 9 9", ["map"]),
    "merge": ("map merge {w}/map {w}/map --model {w}/model", ["map"]),
    "extend": ("map extend {w}/map --dataset {w}/data --model {w}/model", ["map", "data"]),
    "prune": ("map prune {w}/map --keep 0.5", ["map"]),
    "export": ("map export {w}/map --format tum", ["map"]),
    "inspect": ("map inspect {w}/map --model {w}/model", ["map", "model"]),
}


@pytest.mark.parametrize(
    ("command", "folder", "inner"),
    [
        (command, folder, inner)
        for command, (_, folders) in LINES.items()
        for folder in folders
        for inner in ("", "sub", "deep/../sub")
    ],
)
def test_an_output_inside_of_an_input_is_refused(inputs, capsys, command, folder, inner):
    before = sorted((inputs / folder).rglob("*"))
    line = LINES[command][0].format(w=inputs).split()
    assert main([*line, "--output", str(inputs / folder / inner)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("disam: ") and "is read" in last and "outside" in last
    assert sorted((inputs / folder).rglob("*")) == before


def test_an_output_that_leads_into_its_input_by_a_link_is_refused(inputs, tmp_path, capsys):
    (tmp_path / "link").symlink_to(inputs / "bag")
    line = f"extract --bag {inputs}/bag --domain day --output {tmp_path}/link/out"
    assert main(line.split()) == 1
    assert "choose an output outside of it" in capsys.readouterr().err
    assert not (inputs / "bag" / "out").exists()


def test_answers_may_lie_beside_the_images_that_they_are_about(inputs, tmp_path):
    image = next((inputs / "data").rglob("*.jpg"))
    (tmp_path / image.name).write_bytes(image.read_bytes())
    line = f"localize {tmp_path / image.name} --map {inputs}/map --model {inputs}/model"
    assert main([*line.split(), "--output", str(tmp_path / "answers.csv")]) == 0
