# SPDX-License-Identifier: Apache-2.0
"""Experiments train what has no figures yet, once."""

from types import SimpleNamespace

import pytest
from support.training_data import write_drive

from benchmark.networks import encoders_of, load_recipe, pretrained, recipe_of
from benchmark.research import experiment
from benchmark.research.experiment import RECALL, STOPPED, Experiment, recalls
from disam_ros.errors import ConfigError, ModelError
from training.disam.networks import create_networks
from training.engine.checkpoints import save_stage
from training.engine.loop import Interrupted

NETWORK = {"width": 2, "encoder_blocks": 1, "decoder_blocks": 1, "image_size": [32, 32]}


def unused(*_):
    raise AssertionError("nothing is to be trained or judged")


def study(root, overlay=unused, judge=unused, **settings):
    return Experiment("study", root, {"a": "a-{seed}", "b": "b-{seed}"}, overlay, judge, **settings)


def keep(root, folder):
    (root / folder).mkdir()
    (root / folder / RECALL).write_text(f'{{"run": "{folder}"}}')


def test_a_run_is_trained_by_its_recipe_and_judged_once(tmp_path):
    recipe = {"network": NETWORK, "threads": 1, "domains": ["day", "night"]}
    recipe |= {"data": [str(write_drive(tmp_path / d, d, 4)) for d in recipe["domains"]]}
    stage = {"name": "fine", "steps": 1, "aligned_batch": 2, "losses": {"contrastive": 1}}
    recipe |= {"stages": [stage], "aligned": {"radius": 5.0}}
    recipe["data"] = [" + ".join(recipe["data"])]
    start = create_networks(recipe_of(recipe).network.build(), recipe["domains"], False, 0).state()
    save_stage(tmp_path, "start", start)
    recipe["initial"] = str(tmp_path / "stages" / "start.safetensors")
    recipe["validation"] = {"data": recipe["data"][0].split(" + "), "reference": "day"}

    def recall(state):
        return float(sum((state[name] - start[name]).abs().sum() for name in start))

    judged = study(
        tmp_path,
        overlay=lambda row, seed: recipe_of(recipe),
        judge=lambda row, seed, run: recalls(run, start, recall),
        point=lambda encoders: sorted(encoders),
    )
    rows, missing = judged.measure([3])
    figures = rows["a"]["3"]
    assert set(rows) == {"a", "b"} and missing == []
    assert judged.config("a", 3).seed == 3
    assert figures["averaged"] == pytest.approx(figures["trained"] / 2) and figures["trained"] > 0
    assert list(figures["terms"]) == ["contrastive"] and figures["seconds"] > 0
    assert (tmp_path / "a-3" / "model").is_dir()
    assert study(tmp_path).figures("a", 3) == figures
    for row in ("a", "b"):
        assert judged.curve(row, 3) == {step: ["day", "night"] for step in ("0", "1")}
    assert list(figures["curve"]) == ["0", "1"]
    recipe = recipe_of(recipe)
    assert set(encoders_of(recipe, pretrained(recipe))) == {"day", "night"}


def test_rows_of_one_seed_are_trained_after_the_first_seed_of_the_others(tmp_path):
    runs = study(tmp_path, once=["a"]).runs((5, 6))
    assert list(runs) == [("b", 5), ("a", 5), ("b", 6)]


def test_what_is_not_trained_or_has_no_weights_is_named_and_left_out(tmp_path):
    def missing(row, seed):
        raise ModelError("no weights")

    with pytest.raises(ConfigError, match="no run of these seeds has figures; a, seed 0"):
        study(tmp_path).measure([0], finished=True)
    keep(tmp_path, "b-0")
    rows, unfinished = study(tmp_path).measure([0], finished=True)
    assert rows == {"b": {"0": {"run": "b-0"}}} and unfinished == ["a, seed 0"]
    assert study(tmp_path, missing).measure([0]) == (rows, ["a, seed 0: no weights"])


def test_a_recipe_of_another_method_is_refused():
    with pytest.raises(ConfigError, match="expected method 'disam'"):
        load_recipe("config/train_soft_contrastive.yaml")


def test_the_page_is_written_with_all_seeds_and_an_interruption_goes_on_later(monkeypatch, capsys):
    kept, shown = [], []

    def measure(seeds, finished):
        if seeds == [8]:
            raise ConfigError("nothing is trained")
        if seeds == [9]:
            raise Interrupted("stopped after step 7", 2)
        return {"seeds": list(seeds), "finished": finished}

    page = SimpleNamespace(
        section=lambda name: SimpleNamespace(measure=measure, SEEDS=(0, 1), __doc__=""),
        show=lambda name, results: shown.append(results),
        keep=lambda name, results, under: kept.append(results),
        write=lambda: None,
    )
    monkeypatch.setattr(experiment, "PAGE", page)
    assert experiment.main("x", ["1"]) == experiment.main("x", []) == 0
    assert experiment.main("x", ["1", "--write"]) == 0
    assert shown == [{"seeds": [1], "finished": False}]
    assert kept == [{"seeds": [0, 1], "finished": False}, {"seeds": [1], "finished": True}]
    assert experiment.main("x", ["9"]) == STOPPED and experiment.main("x", ["8"]) == 1
    said = capsys.readouterr()
    assert "step 7; the same command goes on" in said.out and "nothing is trained" in said.err
