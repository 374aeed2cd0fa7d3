# SPDX-License-Identifier: Apache-2.0
import csv
import json

import cv2
import numpy as np
import pytest
from support.data import camera_pose, save_tiny_model, texture, write_dataset

from disam_ros.cli import main
from disam_ros.datasets.bags.from_dataset import dataset_to_bag

SETTINGS = "batch_size: 4\ndescriptor:\n  coarse_grid: 4\n  fine_grid: 8\n"


@pytest.fixture
def root(tmp_path):
    write_dataset(tmp_path / "data", 8)
    save_tiny_model(tmp_path / "model")
    (tmp_path / "builder.yaml").write_text(SETTINGS)
    return tmp_path


def build(root, *source):
    model, config = str(root / "model"), str(root / "builder.yaml")
    return main(
        ["build-map", *source, "--model", model, "--output", str(root / "map"), "--config", config]
    )


def localize(root, *words):
    """Localize on the map; returns the status and the rows of the answers."""
    options = ["--map", str(root / "map"), "--model", str(root / "model")]
    status = main(["localize", *words, *options, "--output", str(root / "answers.csv")])
    with (root / "answers.csv").open() as file:
        return status, list(csv.DictReader(file))


def test_a_dataset_becomes_a_map_that_localizes_it(root):
    assert build(root, "--dataset", str(root / "data")) == 0
    config = root / "localizer.yaml"
    config.write_text("min_probability: 0.0\n")  # a pose for every image
    options = ["--domain", "day", "--config", str(config)]
    status, rows = localize(root, "--dataset", str(root / "data"), *options)
    assert status == 0
    assert [int(row["matched_id"]) for row in rows] == list(range(8))
    assert all(row["path"].endswith(row["matched_source"]) for row in rows)
    for index, row in enumerate(rows):
        place = [float(row[f"map_from_camera_t{axis}"]) for axis in "xyz"]
        assert np.allclose(place, camera_pose(index).translation, atol=0.1)  # of steps of 1 m
        assert row["domain"] == "day" and int(row["stamp_ns"]) == (index + 1) * 1_000_000_000


def test_an_unknown_place_has_its_match_and_probability_but_no_pose(root):
    build(root, "--dataset", str(root / "data"))
    image = root / "elsewhere.png"
    cv2.imwrite(str(image), texture(99))
    (root / "strict.yaml").write_text("min_probability: 1.0\n")
    _, (row,) = localize(root, str(image), "--config", str(root / "strict.yaml"))
    assert row["path"] == str(image) and row["stamp_ns"] == "" and row["known"] == "false"
    assert 0.0 <= float(row["probability"]) < 1.0 and row["map_from_camera_tx"] == ""
    assert row["matched_source"] and -1.0 <= float(row["score"]) <= 1.0


def test_answers_are_json_on_request(root, capsys):
    build(root, "--dataset", str(root / "data"))
    capsys.readouterr()
    _, rows = localize(root, "--dataset", str(root / "data"), "--domain", "day", "--json")
    answers = json.loads(capsys.readouterr().out)
    assert [answer["matched_id"] for answer in answers] == [int(row["matched_id"]) for row in rows]
    known = next(answer for answer in answers if answer["known"])
    assert known["domain"] == "day" and len(known["map_from_camera"]) == 7


def test_a_map_of_images_without_a_named_domain_says_which_one_is_taken(root, caplog):
    table = root / "data" / "images.csv"
    table.write_text(table.read_text().replace(",day,", ",,"))
    with caplog.at_level("INFO"):
        assert build(root, "--dataset", str(root / "data")) == 0
    (line,) = [r.getMessage() for r in caplog.records if "Name another one" in r.getMessage()]
    assert "day" in line and "--domain" in line


def test_files_that_cannot_be_read_are_named_and_the_others_answered(root, capsys, caplog):
    build(root, "--dataset", str(root / "data"))
    images = sorted(str(path) for path in (root / "data" / "images").rglob("*.jpg"))
    (root / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    paths = [images[0], str(root / "broken.jpg"), images[1], str(root / "missing.jpg")]
    status, rows = localize(root, *paths, "--domain", "day")
    assert status == 1
    assert [row["matched_id"] for row in rows] == ["0", "", "1", ""]
    assert [row["known"] for row in rows][1] == "false" and rows[1]["probability"] == ""
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("disam: 2 of 4 files cannot be read") and "broken.jpg, " in last
    assert last.endswith("missing.jpg")
    assert "truncated JPEG" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build-map", "--dataset", "nowhere"], "nowhere/dataset.json not found"),
        (["build-map", "--bag", "nowhere"], "nowhere does not exist"),
        (["build-map", "--dataset", "nowhere", "--domain", "fog"], "no encoder for domain 'fog'"),
        (["localize", "x.jpg", "--map", "nowhere"], "nowhere is not a map"),
    ],
)
def test_an_error_is_one_line_and_exit_status_one(root, capsys, arguments, message):
    arguments += ["--model", str(root / "model")]
    if arguments[0] == "build-map":
        arguments += ["--output", str(root / "map")]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_dataset_that_is_named_as_a_bag_is_recognized_and_the_reverse(root, capsys):
    assert build(root, "--bag", str(root / "data")) == 1
    assert (
        "data is a dataset directory, not a bag: name it with --dataset" in capsys.readouterr().err
    )
    dataset_to_bag(root / "data", root / "bag", show_progress=False)
    assert build(root, "--dataset", str(root / "bag")) == 1
    assert "is not a dataset directory but a bag: name it with --bag" in capsys.readouterr().err


def test_a_build_that_is_interrupted_says_how_to_go_on(root, monkeypatch, caplog):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("disam_ros.mapping.builder.build_map", interrupted)
    with caplog.at_level("INFO"):
        assert build(root, "--dataset", str(root / "data")) == 130
    assert "map is kept: the same command resumes it" in caplog.text


def test_a_map_is_checked_and_indexed_on_request(root, capsys, monkeypatch):
    build(root, "--dataset", str(root / "data"))
    for module in ("builder", "index"):
        monkeypatch.setattr(f"disam_ros.mapping.{module}.FLAT", 3)
    assert main(["map", "check", str(root / "map")]) == 0
    assert "8 images, checksums right; index_0.faiss" in capsys.readouterr().out
    (root / "map" / "coarse.npy").write_bytes(b"damaged")
    assert main(["map", "check", str(root / "map")]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere not found: expected a dataset directory or a rosbag2"),
        (["data", "--record", "answers"], "add --through-node"),
        (["data", "--through-node"], "disam to-bag"),
    ],
)
def test_an_evaluation_that_cannot_begin_says_what_to_do(
    root, capsys, monkeypatch, arguments, message
):
    build(root, "--dataset", str(root / "data"))
    monkeypatch.chdir(root)
    assert main(["evaluate", *arguments, "--map", "map", "--model", "model"]) == 1
    assert message in capsys.readouterr().err
    assert not (root / "evaluation").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bag", "data"], "data is a dataset directory"),
        (["--bag", "bag", "--domain", "dya"], "domain 'dya' is not in model"),
    ],
)
def test_a_run_that_cannot_begin_serves_no_page(root, capfd, monkeypatch, arguments, message):
    pytest.importorskip("rclpy")
    build(root, "--dataset", str(root / "data"))
    dataset_to_bag(root / "data", root / "bag", show_progress=False)
    monkeypatch.chdir(root)
    monkeypatch.setenv("ROS_DOMAIN_ID", "1")  # which the command changes
    assert main(["run", *arguments, "--map", "map", "--model", "model", "--port", "0"]) == 1
    written = capfd.readouterr()
    assert message in written.err and "is shown on" not in written.out
