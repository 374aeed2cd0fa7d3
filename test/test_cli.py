# SPDX-License-Identifier: Apache-2.0
import csv
import json

import cv2
import numpy as np
import pytest
from support.data import camera_pose, save_tiny_model, texture, write_dataset

from disam_ros.cli import main
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.mapping.place_map import PlaceMap

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


def read_answers(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_dataset_becomes_a_map_that_localizes_it(root):
    assert build(root, "--dataset", str(root / "data")) == 0
    answers, config = root / "answers.csv", root / "localizer.yaml"
    config.write_text("min_probability: 0.0\n")  # a pose for every image
    status = main(
        ["localize", "--dataset", str(root / "data"), "--map", str(root / "map")]
        + ["--model", str(root / "model"), "--output", str(answers), "--domain", "day"]
        + ["--config", str(config)]
    )
    assert status == 0
    rows = read_answers(answers)
    assert [int(row["matched_id"]) for row in rows] == list(range(8))
    assert all(row["path"].endswith(row["matched_source"]) for row in rows)
    for index, row in enumerate(rows):
        place = [float(row[f"map_from_camera_t{axis}"]) for axis in "xyz"]
        assert np.allclose(place, camera_pose(index).translation, atol=0.1)  # of steps of 1 m
        assert row["domain"] == "day" and int(row["stamp_ns"]) == (index + 1) * 1_000_000_000


def test_an_unknown_place_has_its_match_and_probability_but_no_pose(root):
    build(root, "--dataset", str(root / "data"))
    answers = root / "answers.csv"
    image = root / "elsewhere.png"
    cv2.imwrite(str(image), texture(99))
    arguments = ["localize", str(image), "--map", str(root / "map"), "--model", str(root / "model")]
    (root / "strict.yaml").write_text("min_probability: 1.0\n")
    main([*arguments, "--output", str(answers), "--config", str(root / "strict.yaml")])
    (row,) = read_answers(answers)
    assert row["path"] == str(image) and row["stamp_ns"] == "" and row["known"] == "false"
    assert 0.0 <= float(row["probability"]) < 1.0 and row["map_from_camera_tx"] == ""
    assert row["matched_source"] and -1.0 <= float(row["score"]) <= 1.0


def test_answers_are_json_on_request(root, capsys):
    build(root, "--dataset", str(root / "data"))
    capsys.readouterr()
    images = ["localize", "--dataset", str(root / "data"), "--domain", "day", "--json"]
    options = ["--map", str(root / "map"), "--model", str(root / "model")]
    assert main([*images, *options, "--output", str(root / "answers.csv")]) == 0
    answers, rows = json.loads(capsys.readouterr().out), read_answers(root / "answers.csv")
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
    answers = root / "answers.csv"
    arguments = ["--map", str(root / "map"), "--model", str(root / "model")]
    paths = [images[0], str(root / "broken.jpg"), images[1], str(root / "missing.jpg")]
    assert main(["localize", *paths, *arguments, "--output", str(answers), "--domain", "day"]) == 1
    rows = read_answers(answers)
    assert [row["matched_id"] for row in rows] == ["0", "", "1", ""]
    assert [row["known"] for row in rows][1] == "false" and rows[1]["probability"] == ""
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("disam: 2 of 4 files cannot be read") and "broken.jpg, " in last
    assert last.endswith("missing.jpg")
    assert "truncated JPEG" in caplog.text


def test_a_bag_gives_the_same_map_as_the_dataset_it_was_made_of(root):
    dataset_to_bag(root / "data", root / "bag", show_progress=False)
    (root / "builder.yaml").write_text("domain: day\n" + SETTINGS)
    assert build(root, "--bag", str(root / "bag")) == 0
    from_bag = PlaceMap(root / "map")
    (root / "map").rename(root / "bag_map")
    assert build(root, "--dataset", str(root / "data")) == 0
    from_dataset = PlaceMap(root / "map")
    assert np.allclose(from_bag.coarse, from_dataset.coarse, atol=1e-3)
    for one, two in zip(from_bag.records, from_dataset.records, strict=True):
        a, b = one.map_from_camera, two.map_from_camera
        assert np.allclose(a.translation, b.translation, atol=1e-6)
        assert np.allclose(a.rotation, b.rotation, atol=1e-6)


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


def test_a_misspelt_domain_is_answered_with_the_nearest_names(tmp_path, capsys):
    output = str(tmp_path / "model")
    assert main(["create-model", "--domains", "sumer_day", "--output", output]) == 1
    assert "summer_day" in capsys.readouterr().err


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
        (["data", "--output", "data"], "data is read"),
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
