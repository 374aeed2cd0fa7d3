# SPDX-License-Identifier: Apache-2.0
"""Your own drives: held-out validation, early stop, report, calibration, a full disk."""

import errno
import json
import logging
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from support.data import CAMERA, camera_pose, texture
from support.training_stage import TINY, recipe, stage

from disam_ros import load_model
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from training.data import held_out
from training.data.sources import Photo, find_photos
from training.disam.calibrating import calibrate_model
from training.disam.matching import similarity_of
from training.disam.run import Training
from training.engine import checkpoints, judgement, loop
from training.engine.judgement import Judgement
from training.engine.validate import recall
from training.recipes import load_config
from training.train import main

pytestmark = pytest.mark.usefixtures("one_thread")
CONTRASTIVE = {"contrastive": 1}
PLAN = [stage(4, losses=CONTRASTIVE, aligned_batch=4)]


def write_route(root, count=80, spacing=4.0):
    """A day and a night drive over one route of different textures."""
    for domain in ("day", "night"):
        with DatasetWriter(root / domain, DatasetInfo(domain, {"front": CAMERA})) as writer:
            for k in range(count):
                picture = texture(k) if domain == "day" else texture(k) // 3
                data = cv2.imencode(".png", picture)[1].tobytes()
                writer.add(data, (k + 1) * 10**9, "front", domain, camera_pose(spacing * k))
    return root


@pytest.fixture
def route(tmp_path):
    write_route(tmp_path / "data")
    return tmp_path


def test_the_shipped_recipe_trains_as_the_shipped_model_was_trained():
    drives, outdoor = (load_config(f"config/train_{name}.yaml") for name in ("drives", "outdoor"))
    assert [s.name for s in drives.stages] == [s.name for s in outdoor.stages] == ["fine"]
    assert drives.average == outdoor.average and drives.aligned == outdoor.aligned
    assert drives.network == outdoor.network and drives.descriptor == outdoor.descriptor
    assert drives.stages[0].losses.on() == CONTRASTIVE
    assert drives.validation.held_out and drives.patience and drives.calibrate


def test_a_stretch_that_validates_and_what_trains_are_apart_in_every_condition(route):
    trained, held = held_out.split(find_photos([str(route / "data")]), 0.25)
    assert {p.domain for p in held} == {p.domain for p in trained} == {"day", "night"}
    here, there = (np.array([p.position for p in photos]) for photos in (trained, held))
    assert np.linalg.norm(here[:, None] - there[None], axis=-1).min() >= held_out.APART
    assert len(held) == 2 * 20


def test_a_way_back_over_the_stretch_does_not_train_either():
    out = [Photo(f"o{k}", "day", "g", (4.0 * k, 0, 0), drive="a", stamp_ns=k) for k in range(80)]
    back = [
        Photo(f"b{k}", "night", "g", (4.0 * (79 - k), 2, 0), drive="b", stamp_ns=k)
        for k in range(80)
    ]
    trained, held = held_out.split([*out, *back], 0.25)
    assert max(p.position[0] for p in trained) < min(p.position[0] for p in held) - 14


def test_routes_too_short_webcams_and_unknown_places_are_not_split():
    short = [Photo(f"{k}", d, "g", (k, 0, 0), drive=d, stamp_ns=k) for k in range(9) for d in "ab"]
    tiles = [Photo("t", "day", "cam", tiled=True), Photo("u", "day")]
    assert held_out.split([*short, *tiles], 0.5) == ([*short, *tiles], [])


def test_a_run_without_validation_data_validates_on_a_held_out_stretch(route):
    run = Training(recipe(route, PLAN, validation={"held_out": 0.25}))
    run.run()
    assert [entry["step"] for entry in run.progress.history] == [0, 4]
    kept = sorted((route / "run" / "validation").iterdir())
    assert [Dataset(folder).domains() for folder in kept] == [["day"], ["night"]]
    seen = {photo.position for photo in run.store.photos}
    assert not seen & {tuple(r.map_from_camera.translation) for r in Dataset(kept[0]).records}
    Training(recipe(route, PLAN, validation={"held_out": 0.25}), resume=True).run()


def test_a_route_too_short_to_hold_out_is_trained_on_whole_with_a_warning(tmp_path, caplog):
    write_route(tmp_path / "data", count=8)
    Training(recipe(tmp_path, PLAN, validation={"held_out": 0.15})).run()
    assert "nothing is validated" in caplog.text
    assert "whether this model is better" in (tmp_path / "run" / "report.html").read_text()


def with_recalls(monkeypatch, *means):
    """Validations that have these recalls, one after the other, then the last."""
    values = iter(means)
    last = [means[-1]]

    def found(*_, **__):
        value = next(values, last[0])
        return {"night": value, "mean": value}

    monkeypatch.setattr(loop, "recall", found)


def test_a_stage_ends_early_once_recall_has_not_risen_for_a_while(route, monkeypatch):
    with_recalls(monkeypatch, 50, 60, 70, 65, 70)
    plan = [stage(20, losses=CONTRASTIVE, aligned_batch=4)]
    changes = {"validate_every": 2, "patience": 2, "validation": {"held_out": 0.25}}
    run = Training(recipe(route, plan, **changes))
    run.run()
    assert [entry["step"] for entry in run.progress.history] == [0, 2, 4, 6, 8]
    assert run.progress.best == {"fine": 70}


def test_the_report_shows_start_beside_result_and_the_worst_pairs(route, monkeypatch):
    run = Training(recipe(route, PLAN, validation={"held_out": 0.25, "radius": 1.0}))
    run.run()
    page = (route / "run" / "report.html").read_text()
    assert "Start beside result" in page and "<td>" in page and "contrastive" in page
    encoders = load_model(route / "run" / "model").fine
    similarity = similarity_of("fine", run.config.descriptor)
    result = recall(encoders, similarity, run.validation, run.device)
    assert f"{result['night']:.1f}" in page
    assert ("Worst pairs" in page) == (result["night"] < 100)


def test_a_model_worse_than_its_start_is_said_in_red_and_in_the_log(route, monkeypatch, caplog):
    values = iter([80.0, 60.0])
    monkeypatch.setattr(
        judgement, "recall", lambda *_: dict.fromkeys(("night", "mean"), next(values))
    )
    Training(recipe(route, PLAN, validation={"held_out": 0.25})).run()
    page = (route / "run" / "report.html").read_text()
    assert 'class="bad banner">THE MODEL IS WORSE THAN ITS START' in page
    assert any(
        r.levelno >= logging.ERROR and "WORSE THAN ITS START" in r.message for r in caplog.records
    )


def test_a_model_that_gained_nothing_has_the_weights_of_its_start_and_says_so(
    route, monkeypatch, caplog
):
    with_recalls(monkeypatch, 90, 80, 85)
    plan = [stage(4, losses=CONTRASTIVE, aligned_batch=4)]
    run = Training(recipe(route, plan, validate_every=2, validation={"held_out": 0.25}))
    run.run()
    assert "NO GAIN: THIS IS THE START" in caplog.text
    page = (route / "run" / "report.html").read_text()
    assert 'class="bad banner">NO GAIN: THIS IS THE START' in page
    model, start = load_model(route / "run" / "model"), run.start()
    for domain, encoder in start.items():
        expected = encoder.state_dict()
        for name, value in model.fine[domain].state_dict().items():
            assert torch.equal(value, expected[name])


def test_the_map_of_validation_is_by_day_with_most_images_and_the_log_says_so(route, caplog):
    caplog.set_level(logging.INFO)
    run = Training(recipe(route, PLAN, domains=["night", "day"], validation={"held_out": 0.25}))
    assert run.validation.reference == "day"
    count = len(run.validation.images["night"])
    assert "a map of 'day' (chosen; validation.reference names another)" in caplog.text
    assert f"queries: {count} night" in caplog.text
    assert "fewer than 50 queries" in caplog.text and f"{100 / count:.1f} points" in caplog.text


def test_a_condition_is_judged_by_its_number_of_queries():
    recalls = {"night": 50.0, "mean": 50.0}
    judged = partial(Judgement, start=recalls, reference="day", kept_start=False, mistakes=[])
    one_more = {"night": 52.0, "mean": 52.0}
    few, many = (judged(result=one_more, queries={"night": n}) for n in (50, 200))
    assert "NO DIFFERENCE THAT THESE QUERIES CAN SHOW" in few.verdict
    assert many.verdict.startswith("Better") and "of 200 queries in a map of day" in many.verdict


def test_a_finished_model_is_calibrated_on_the_drives_that_validate(route, caplog):
    config = recipe(route, PLAN, validation={"held_out": 0.25}, calibrate=True)
    Training(config).run()
    page = (route / "run" / "report.html").read_text()
    calibrated = (route / "run" / "model" / "calibration.json").exists()
    assert ("calibrated on" in page) == calibrated
    assert calibrated or "not calibrated: no answer" in page


def test_validation_without_a_drive_to_map_leaves_the_model_uncalibrated_and_says_so(route):
    Training(recipe(route, PLAN)).run()
    said = calibrate_model(route / "run" / "model", [str(route / "data")], "winter")
    assert "no drive of 'winter'" in said and "disam calibrate" in said


NO_SPACE = "No space left on device"
FULL = [OSError(errno.ENOSPC, NO_SPACE), SafetensorError(f"I/O error: {NO_SPACE} (os error 28)")]


@pytest.mark.parametrize(("writer", "error"), list(zip(("save_file", "save"), FULL, strict=True)))
def test_a_disk_that_fills_ends_the_run_with_a_message_and_it_can_be_resumed(
    route, monkeypatch, caplog, writer, error
):
    def full(*_, **__):
        raise error

    path = route / "recipe.yaml"
    values = {**TINY, "data": [str(route / "data")], "output": str(route / "run")}
    path.write_text(json.dumps({**values, "stages": PLAN, "checkpoint_every": 2}))  # JSON is YAML
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, writer, full)
        assert main(["--config", str(path)]) == 1
    assert NO_SPACE in caplog.text and "--resume" in caplog.text
    assert main(["--config", str(path), "--resume"]) == 0
    assert load_model(route / "run" / "model")
