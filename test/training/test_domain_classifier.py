# SPDX-License-Identifier: Apache-2.0
"""Training of the domain classifier."""

import logging

import numpy as np
import pytest
import torch
from support.data import save_tiny_model, texture
from support.training_data import write_drive, write_image, write_webcams

from disam_ros.domains.classifier import DomainClassifier, weight_shapes
from disam_ros.models.added_files import add_classifier
from disam_ros.models.model import load_model
from training import domain_classifier as training
from training.errors import TrainingError


def write_colours(folder, count=6, colours=None):
    """A folder per domain: days are bluish, nights reddish, equally bright on average."""
    for domain, colour in (colours or {"day": (0, 0, 90), "night": (90, 0, 0)}).items():
        for k in range(count):
            image = np.clip(texture(k) // 2 + np.array(colour), 0, 255).astype(np.uint8)
            write_image(folder / domain / f"{k}.png", image)
    return str(folder)


def test_training_separates_two_colours_and_adds_the_classifier(tmp_path, capsys):
    before = save_tiny_model(tmp_path / "model")
    data = write_colours(tmp_path / "data")
    held_out = write_colours(tmp_path / "held_out", 9)
    arguments = ["--model", str(tmp_path / "model"), "--data", data, "--steps", "60"]
    assert training.main([*arguments, "--validation", held_out, "--seed", "3"]) == 0
    output = capsys.readouterr().out
    assert "validation: 100.0 % of 18 images" in output
    model = load_model(tmp_path / "model")
    assert model.identity == before.identity
    provenance = model.training["domain_classifier"]
    assert provenance["data"] == [data]
    assert (provenance["steps"], provenance["seed"]) == (60, 3)
    assert provenance["images"] == {"day": 6, "night": 6}
    assert provenance["validation"]["accuracy"] == 1.0
    assert provenance["validation"]["confusion"]["night"] == {"day": 0, "night": 9}
    assert model.classifier.classify(np.full((40, 60, 3), (150, 60, 60), np.uint8))[0] == "night"
    assert not list((tmp_path / "model").glob("*.part"))


def test_training_is_reproducible_and_depends_on_the_seed(tmp_path):
    store = training.open_store([write_colours(tmp_path / "data")], ["day", "night"])
    one, two, other = (
        training.fit(store, ["day", "night"], 3, seed).weights["head.weight"] for seed in (0, 0, 1)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_in_numpy_it_gives_the_logits_of_the_network_that_was_trained():
    network = training.Network(3)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    images = np.random.default_rng(0).random((4, 3, 48, 64), np.float32) * 2 - 1
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    logits = DomainClassifier(("a", "b", "c"), weights).logits(images)
    assert np.allclose(logits, expected, atol=1e-5)


def test_every_domain_is_drawn_equally_often(tmp_path):
    for domain, count in (("day", 12), ("night", 1)):
        write_drive(tmp_path / "data" / domain, domain, count)
    store = training.open_store([str(tmp_path / "data")], ["day", "night"])
    rows = store.rows()
    batch = training.draw_batch(store, [rows["day"], rows["night"]], np.random.default_rng(0))
    assert batch[0].shape == (training.BATCH, 3, 48, 64)
    assert batch[0].abs().max() <= 1
    assert np.bincount(batch[1]).tolist() == [training.BATCH // 2] * 2


def test_webcams_are_told_apart_by_brightness(tmp_path):
    save_tiny_model(tmp_path / "model")
    entry = f"webcams:{write_webcams(tmp_path / 'cams')}"
    table = training.train(tmp_path / "model", [entry], [entry], steps=1)
    assert {domain: sum(row.values()) for domain, row in table.items()} == {"day": 8, "night": 8}


def test_without_validation_data_it_says_so_and_trains(tmp_path, caplog):
    save_tiny_model(tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        assert training.train(tmp_path / "model", [write_colours(tmp_path / "d")], [], 1) == {}
    assert "no validation data" in caplog.text
    model = load_model(tmp_path / "model")
    assert model.classifier is not None
    assert model.training["domain_classifier"]["validation"] is None


def test_data_that_does_not_fit_is_refused_before_training(tmp_path, caplog):
    save_tiny_model(tmp_path / "model")
    good = write_colours(tmp_path / "good")
    other = write_colours(tmp_path / "other", colours={"fog": (9, 9, 9)})
    day = write_colours(tmp_path / "half", 2, {"day": (0, 0, 90)})

    def refused(words, data, validation=(), steps=1):
        with pytest.raises(TrainingError, match=words):
            training.train(tmp_path / "model", data, validation, steps)

    refused("no images of night in the data, found 2 of day", [day])
    refused("no images of day, night in", [other])
    refused("no images of day, night in", [good], [other])
    refused("is not a directory", [str(tmp_path / "missing")])
    refused("steps must be at least 1, got 0", [good], steps=0)
    missing = str(tmp_path / "missing")
    assert training.main(["--model", missing, "--data", missing]) == 1
    assert "is not a model directory" in caplog.text
    assert load_model(tmp_path / "model").classifier is None


# The benchmark


def test_the_benchmark_leaves_out_what_is_missing(tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
    from benchmark.accuracy.domains import measure

    model = tmp_path / "model"
    assert measure(tmp_path / "no_webcams", model) == {}
    save_tiny_model(model)
    cams = write_webcams(tmp_path / "cams")
    assert measure(cams, model) == {}
    weights = {k: np.zeros(shape, np.float32) for k, shape in weight_shapes(2).items()}
    weights["head.bias"][1] = 1.0  # names every image a night
    add_classifier(model, DomainClassifier(("day", "night"), weights), {})
    result = measure(cams, model)["webcams"]
    assert result["accuracy"] == 0.5
    assert result["confusion"]["day"] == {"day": 0, "night": 8}
