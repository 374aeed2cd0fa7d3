# SPDX-License-Identifier: Apache-2.0
"""Every command that localizes gives the answers of the pipeline that the node runs."""

import csv
import json

import numpy as np
import pytest
from support import scene
from support.data import DESCRIPTOR, save_tiny_model
from support.localize import process

from disam_ros.cli import main
from disam_ros.config import LocalizerConfig, MapBuilderConfig, SequenceConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.evaluation.answers import ANSWER_POSE
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map

LEAST = 0.0  # probability of a known place: an untrained model hardly tells them apart


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a map of a wall that has keypoints, a drive along it and settings."""
    folder = tmp_path_factory.mktemp("wall")
    model = save_tiny_model(folder / "model")
    route = [scene.pose(x) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    data = scene.write_scene(folder / "data", route, depth=True)
    config = MapBuilderConfig(keyframe_distance=0.0, keypoints=300, descriptor=DESCRIPTOR)
    build_map(open_dataset(data.directory), model, folder / "map", config, show_progress=False)
    driven = [scene.pose(x, -0.1, 0.2, 1.0) for x in (-1.6, 0.3, 1.2)]
    scene.write_scene(folder / "drive", driven, depth=False)
    (folder / "settings.yaml").write_text(f"min_probability: {LEAST}\nverify: {{when: always}}\n")
    return folder


@pytest.fixture(scope="module")
def answers(world):
    """Answers to the drive by the pipeline itself, each image alone."""
    config = LocalizerConfig(min_probability=LEAST, sequence=SequenceConfig(enabled=False))
    config.verify.when = "always"
    pipeline = Pipeline(Localizer.open(world / "map", world / "model", config))
    source = open_dataset(world / "drive")
    return [
        process(
            pipeline,
            Frame(
                image=item.load(),
                camera=item.record.camera,
                stamp_ns=item.record.stamp_ns,
                lens=source.info.cameras[item.record.camera],
            ),
        )
        for item in source.images
    ]


def options(world, output):
    """Map, model, settings and output of a command."""
    pairs = {"map": "map", "model": "model", "config": "settings.yaml", "output": output}
    return [word for name, file in pairs.items() for word in (f"--{name}", str(world / file))]


def test_localize_and_evaluate_give_the_answers_of_the_pipeline(world, answers):
    drive = str(world / "drive")
    assert main(["localize", "--dataset", drive, *options(world, "answers.csv")]) == 0
    assert main(["evaluate", drive, "--single", *options(world, "evaluation")]) == 0
    text = (world / "answers.csv").read_text()
    assert (world / "evaluation" / "answers.csv").read_text() == text
    frames = json.loads((world / "evaluation" / "results.json").read_text())["frames"]
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len(answers) == len(frames["outcome"])
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        assert answer.inliers > 0 and "verify" in answer.timings_ms
        assert int(row["matched_id"]) == frames["matched_id"][number] == answer.record.id
        assert (row["known"] == "true") == answer.known == (frames["outcome"][number] == "known")
        assert float(row["probability"]) == frames["probability"][number]
        assert float(row["probability"]) == pytest.approx(answer.probability, abs=1e-6)
        assert float(row["score"]) == pytest.approx(answer.best.fine_score, abs=1e-6)
        if answer.known:
            pose = [float(row[column]) for column in ANSWER_POSE]
            expected = [*answer.map_from_camera.translation, *answer.map_from_camera.quaternion]
            assert np.allclose(pose, expected, atol=1e-6)
    assert all(answer.known for answer in answers)
