# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed (SIGKILL) before any of their changes of files: nothing loads wrongly.

An output is absent, the old one, the new one, or refused where it is read; and the same command
completes it, as if it had not been killed. `FUZZ=30` tries thirty times as many moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import COMMANDS
from support.kills import run
from support.training_data import write_drive
from support.training_stage import TINY, stage

from disam_ros.datasets.dataset import Dataset
from disam_ros.errors import DisamError
from disam_ros.evaluation.results import read_results
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model

pytestmark = pytest.mark.slow

MOMENTS = 2 * int(os.environ.get("FUZZ", "1"))

# Command line, what reads its output, and what of the output can be compared, by its beginning.
CASES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "build-map": (COMMANDS["build-map"].arguments, PlaceMap, ""),
    "extract": (COMMANDS["extract"].arguments, Dataset, ""),
    "evaluate": (
        "evaluate {w}/data --map {w}/map --model {w}/model",
        read_results,
        "trajectories/",
    ),
}


def content(folder: Path, begins: str = "") -> dict[str, bytes]:
    """Files of a folder that begin so, without hidden ones, such as its manifest."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if name.startswith(begins) and not name.startswith(".")
    }


def moments(count: int, name: str) -> list[int]:
    """Changes before which the command is killed, the first and last among them."""
    drawn = random.Random(name).sample(range(1, count + 1), min(MOMENTS, count))
    return sorted({1, count, *drawn})


@pytest.mark.parametrize("old", [False, True], ids=["new", "overwritten"])
@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_leaves_nothing_that_loads_wrongly(inputs, tmp_path, name, old):
    text, read, begins = CASES[name]
    line = [*text.format(w=inputs).split(), "--output", str(tmp_path / "out" / "it")]
    before, log, output = content(inputs), tmp_path / "log", tmp_path / "out" / "it"

    def prepare() -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        output.parent.mkdir()
        if old:
            shutil.copytree(tmp_path / "old", output)

    if old:
        output.parent.mkdir()
        assert run(line, tmp_path, log)[0] == 0, log.read_text()[-2000:]
        output.rename(tmp_path / "old")
        line.append("--overwrite")
    prepare()
    status, count = run(line, output.parent, log)
    assert status == 0, log.read_text()[-2000:]
    whole, names = content(output, begins), sorted(output.parent.iterdir())
    assert whole
    for moment in moments(count, name):
        prepare()
        assert run(line, output.parent, log, moment)[0] == -9, log.read_text()[-2000:]
        assert content(inputs) == before
        state = content(output, begins)
        changed = sorted(name for name in whole if state.get(name) != whole[name])
        if output.exists() and changed:
            with pytest.raises((DisamError, OSError)):
                read(output)
                raise AssertionError(f"before change {moment} of {count}: {changed}")
        if output.exists() and "--overwrite" not in line:
            continue  # complete
        assert run(line, output.parent, log)[0] == 0, log.read_text()[-2000:]
        assert content(output, begins) == whole, moment
        assert sorted(output.parent.iterdir()) == names


@pytest.mark.usefixtures("one_thread")
def test_a_training_that_is_killed_goes_on_to_the_same_weights(tmp_path):
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain, 5)
    recipe, log, output = tmp_path / "recipe.yaml", tmp_path / "log", tmp_path / "out" / "run"
    recipe.write_text(json.dumps({**TINY, "checkpoint_every": 2, "stages": [stage(4)]}))
    words = f"train --config {recipe} --data {tmp_path}/data --output {output} --resume"
    output.parent.mkdir()
    status, count = run(words.split(), output.parent, log)
    assert status == 0, log.read_text()[-2000:]
    weights = weights_of(output / "model")
    assert weights
    for moment in moments(count, "train"):
        shutil.rmtree(output)
        assert run(words.split(), output.parent, log, moment)[0] == -9, log.read_text()[-2000:]
        if (output / "model").exists():
            assert weights_of(output / "model") == weights
        assert run(words.split(), output.parent, log)[0] == 0, log.read_text()[-2000:]
        assert weights_of(output / "model") == weights, moment


def weights_of(model: Path) -> dict[str, bytes]:
    """Weight files of a model that opens."""
    load_model(model)
    return {k: v for k, v in content(model).items() if k.endswith(".safetensors")}
