# SPDX-License-Identifier: Apache-2.0
"""Predictions of other methods beside ours: each form by hand, and ours in their form."""

import json

import numpy as np
import pytest

from disam_ros.cli import main
from disam_ros.datasets.dataset import Dataset
from disam_ros.errors import DatasetError
from disam_ros.evaluation import read_results
from disam_ros.evaluation.compare import compare
from disam_ros.evaluation.predictions.against import results_of
from disam_ros.evaluation.predictions.files import read_predictions
from disam_ros.mapping.place_map import PlaceMap

COUNT = 12


@pytest.fixture(scope="module")
def ours(world, tmp_path_factory):
    """A folder with an evaluation of the data that the map was made of."""
    root = tmp_path_factory.mktemp("evaluation")
    (root / "all.yaml").write_text("min_probability: 0.0\n")
    line = f"evaluate {world}/data --map {world}/map --model {world}/model --output {root}/ours"
    assert main([*line.split(), "--single", "--config", str(root / "all.yaml")]) == 0
    return root / "ours"


def names(world):
    return [record.path for record in Dataset(world / "data").records]


def written(path, kind, queries, images):
    """Predictions in one form; images: of each query, best first."""
    if kind == "pairs":
        rows = [
            f"{q} {image}" for q, ranking in zip(queries, images, strict=True) for image in ranking
        ]
    elif kind == "table":
        rows = ["query,1,2"]
        rows += [",".join([q, *ranking]) for q, ranking in zip(queries, images, strict=True)]
    elif kind == "utm":
        rows = []
        for q, ranking in zip(queries, images, strict=True):
            for image in ranking:
                number = int(image.split("/")[-1].removesuffix(".jpg")) // 10**9 - 1
                rows.append(f"{q} db/@1.00@2.00@33@U@51.0@13.7@{number}@@90.00@@@@1@day@.jpg")
    else:
        path.mkdir()
        for k, (q, ranking) in enumerate(zip(queries, images, strict=True)):
            text = "\n".join(["Query path:", f"/a/{q}\n", "Predictions paths:", *ranking, ""])
            (path / f"{k:03d}.txt").write_text(text)
        return path
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("kind", ["pairs", "table", "folder", "utm"])
def test_predictions_of_each_form_are_judged_by_their_first_map_image(world, ours, tmp_path, kind):
    queries = names(world)
    images = [[queries[min(k + 3 * (k % 2), COUNT - 1)], queries[0]] for k in range(COUNT)]
    path = written(tmp_path / "theirs", kind, queries, images)
    evaluation = read_results(ours)
    results = results_of(evaluation, read_predictions(path), PlaceMap(world / "map"))
    expected = [min(3 * (k % 2), COUNT - 1 - k) for k in range(COUNT)]
    assert np.allclose(results["frames"]["error_m"], expected, atol=1e-6)
    (row,) = (d for d in compare(evaluation, results) if d.figure == "within 0.25 m 2°, %")
    assert (row.a, row.b) == (1.0, sum(e == 0 for e in expected) / COUNT)


def test_our_predictions_come_back_with_the_poses_of_their_map_images(world, ours):
    (path,) = (ours / "predictions").iterdir()
    evaluation = read_results(ours)
    assert all(len(ranking) > 1 for ranking in read_predictions(path).ranked.values())
    results = results_of(evaluation, read_predictions(path), PlaceMap(world / "map"))
    assert results["frames"]["matched_id"] == evaluation["frames"]["matched_id"]
    assert np.allclose(results["frames"]["error_m"], 0.0, atol=1e-6)  # the queries are the map's
    step = PlaceMap(world / "map").spacing()  # our own poses lie between map images
    assert np.all(np.array(evaluation["frames"]["error_m"]) < step / 10)


def test_poses_of_another_system_are_compared_at_the_queries_stamps(world, ours, tmp_path):
    records = Dataset(world / "data").records
    path = tmp_path / "poses.txt"
    rows = [f"{r.stamp_ns / 1e9:.9f} {r.id + 0.5} 0 0 0 0 0 1" for r in records[:8]]
    path.write_text("\n".join(rows))
    evaluation = read_results(ours)
    place_map = PlaceMap(world / "map")
    results = results_of(evaluation, read_predictions(path), place_map)
    assert results["frames"]["outcome"].count("known") == 8
    # The base is at the camera of this dataset, whose mount is the identity.
    assert results["frames"]["error_m"][0] == pytest.approx(np.hypot(0.5, 1.5))


def test_one_command_shows_both_in_one_table(world, ours, tmp_path, capsys):
    queries = names(world)
    path = written(tmp_path / "pairs.txt", "pairs", queries[:6], [[q] for q in queries[:6]])
    assert main(["compare", str(ours), "--against", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "R@1 5 m" in shown and "50.00" in shown and "100.00" in shown
    assert main(["compare", str(ours), "--against", str(path), "--json"]) == 0
    rows = {row["figure"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["R@1 5 m, %"]["a"], rows["R@1 5 m, %"]["b"]) == (1.0, 0.5)


FAULTS = {
    "": "holds no predictions",
    "a b c\n": "expected pairs",
    "x/y/none.jpg images/day/front/1000000000.jpg\n": "not one prediction is of a query",
    "images/day/front/1000000000.jpg nowhere.jpg\n": "is no image of the map; expected names such",
}


@pytest.mark.parametrize("text", FAULTS)
def test_predictions_of_something_else_are_refused(ours, tmp_path, capsys, text):
    (tmp_path / "theirs.txt").write_text(text)
    line = ["compare", str(ours), "--against", str(tmp_path / "theirs.txt")]
    assert main(line) == 1
    assert FAULTS[text] in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_predictions_and_one_evaluation_alone_are_refused(ours, tmp_path, capsys):
    with pytest.raises(DatasetError, match=r"holds no \.txt files of predictions"):
        read_predictions(tmp_path)
    assert main(["compare", str(ours)]) == 1
    assert "two evaluations, or one and --against" in capsys.readouterr().err
