# SPDX-License-Identifier: Apache-2.0
import logging
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from support.data import NETWORK, save_tiny_model, texture
from support.localize import localize
from support.training_data import write_drive, write_webcams

from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.classifier import (
    DomainClassifier,
    accuracy,
    confusion,
    weight_shapes,
)
from disam_ros.domains.domain import Domain, DomainChooser
from disam_ros.errors import ConfigError, ImageError, ModelError
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.added_files import add_classifier
from disam_ros.models.model import create_model, load_model, save_model
from training import domain_classifier as training
from training.errors import TrainingError

DOMAINS = [Domain("day", sun_elevation=(0.0, 90.0)), Domain("night", (-90.0, 0.0))]
DRESDEN = {"latitude": 51.0, "longitude": 13.7}
NOON_NS = 1_750_071_600 * 10**9  # 16 June 2025, 11:00 UTC
MIDNIGHT_NS = NOON_NS + 12 * 3600 * 10**9


def always(name: str) -> DomainClassifier:
    """Names every image the same, with a probability of 95 %."""
    weights = {k: np.zeros(shape, np.float32) for k, shape in weight_shapes(2).items()}
    weights["head.bias"] = np.float32(np.log(19)) * np.array([name == "day", name == "night"])
    return DomainClassifier(("day", "night"), weights)


def random(*domains: str) -> DomainClassifier:
    """Of random weights."""
    state = training.Network(len(domains)).state_dict()
    return DomainClassifier(domains, {name: value.numpy() for name, value in state.items()})


def same(one: DomainClassifier, two: DomainClassifier) -> bool:
    images = np.random.default_rng(0).random((2, 3, 48, 64), np.float32) * 2 - 1
    return np.array_equal(one.logits(images), two.logits(images))


# The network


def test_it_is_small():
    assert sum(np.prod(shape) for shape in weight_shapes(8).values()) < 50_000


def test_an_image_of_any_size_gets_a_domain_and_a_probability():
    classifier = random("day", "night")
    for height, width in ((48, 64), (480, 640), (20, 31)):
        name, probability = classifier.classify(texture(1, height, width))
        assert name in classifier.domains
        assert 0.5 <= probability <= 1.0
    with pytest.raises(ImageError, match="uint8"):
        classifier.classify(np.zeros((4, 4, 3)))


def test_confusion_counts_what_each_domain_is_named():
    images = [(texture(k), domain) for k, domain in enumerate(["day", "night", "night", "night"])]
    table = confusion(always("night"), images)
    assert table == {"day": {"day": 0, "night": 1}, "night": {"day": 0, "night": 3}}
    assert accuracy(table) == 0.75
    assert list(confusion(always("day"), images[:1])) == ["day"]


# The model directory


@pytest.mark.parametrize("half", [False, True])
def test_a_saved_classifier_is_loaded_again(tmp_path, half):
    model = create_model(NETWORK, DOMAINS)
    model.classifier = random("day", "night")
    save_model(model, tmp_path / "model", half)
    loaded = load_model(tmp_path / "model").classifier
    assert loaded.domains == ("day", "night")
    assert same(loaded, model.classifier)


def test_the_classifier_is_no_part_of_the_models_identity(tmp_path):
    model = create_model(NETWORK, DOMAINS)
    save_model(model, tmp_path / "without")
    model.classifier = random("day", "night")
    save_model(model, tmp_path / "with")
    add_classifier(tmp_path / "without", always("day"), {})
    identities = {load_model(tmp_path / name).identity for name in ("with", "without")}
    assert identities == {model.identity}


def test_a_directory_without_classifier_loads_as_before(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    assert model.classifier is None
    assert not (tmp_path / "model" / "domain.safetensors").exists()
    (tmp_path / "model" / "domain.safetensors").write_bytes(b"left over, not listed")
    assert load_model(tmp_path / "model").classifier is None


def test_in_numpy_it_gives_the_logits_of_the_network_that_was_trained():
    network = training.Network(3)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    images = np.random.default_rng(0).random((4, 3, 48, 64), np.float32) * 2 - 1
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    result = DomainClassifier(("a", "b", "c"), weights).logits(images)
    assert np.allclose(result, expected, atol=1e-5)
    with pytest.raises(ModelError, match="do not fit the network"):
        DomainClassifier(("a", "b"), weights)


def test_a_classifier_is_added_with_its_provenance_and_replaced(tmp_path):
    before = save_tiny_model(tmp_path / "model")
    for name, seed in (("day", 1), ("night", 2)):
        add_classifier(tmp_path / "model", always(name), {"seed": seed})
        model = load_model(tmp_path / "model")
        assert model.classifier.classify(texture(0))[0] == name
        assert model.training == {**before.training, "domain_classifier": {"seed": seed}}
        assert model.identity == before.identity
    names = {path.name for path in (tmp_path / "model").glob("[!.]*")}
    assert names == {"model.json", *(f"{s}.safetensors" for s in ("coarse", "fine", "domain"))}


@pytest.mark.parametrize("replaced", range(3))
def test_killed_while_a_classifier_is_replaced_the_model_still_loads(
    tmp_path, monkeypatch, replaced
):
    save_tiny_model(tmp_path / "model")
    add_classifier(tmp_path / "model", always("day"), {})
    original, count = os.replace, 0

    def replace_some(source, target):
        nonlocal count
        if count == replaced:
            raise KeyboardInterrupt
        count += 1
        original(source, target)

    monkeypatch.setattr(os, "replace", replace_some)
    with pytest.raises(KeyboardInterrupt):
        add_classifier(tmp_path / "model", always("night"), {})
    monkeypatch.undo()
    model = load_model(tmp_path / "model")
    assert (model.classifier is None) == (replaced > 0)
    add_classifier(tmp_path / "model", always("night"), {})
    assert load_model(tmp_path / "model").classifier.classify(texture(0))[0] == "night"


def test_a_damaged_or_missing_classifier_file_is_named(tmp_path):
    save_tiny_model(tmp_path / "model")
    add_classifier(tmp_path / "model", always("day"), {})
    path = tmp_path / "model" / "domain.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"domain\.safetensors is damaged: its SHA-256"):
        load_model(tmp_path / "model")
    path.unlink()
    with pytest.raises(ModelError, match=r"domain\.safetensors not found"):
        load_model(tmp_path / "model")


def test_a_classifier_of_other_domains_is_refused(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    other = random("night", "day")
    with pytest.raises(ModelError, match="domains night, day, expected the model's"):
        add_classifier(tmp_path / "model", other, {})
    model.classifier = other
    with pytest.raises(ModelError, match="in their order: day, night"):
        save_model(model, tmp_path / "new")
    with pytest.raises(ModelError, match="not a model directory"):
        add_classifier(tmp_path / "nothing", other, {})


# The localizer


@pytest.fixture
def open_localizer(dataset, model, tmp_path, builder_config):
    source = open_dataset(dataset.directory)
    place_map = build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    model.classifier = always("night")

    def make(**domain):
        config = LocalizerConfig(device="cpu", domain=DomainConfig(**domain))
        return Localizer(model, place_map, config)

    return make


def test_the_images_domain_is_used_only_when_asked_for(open_localizer):
    by_clock = localize(open_localizer(), texture(3)).domain
    by_image = localize(open_localizer(from_image=True), texture(3)).domain
    assert (by_clock.name, by_image.name) == ("day", "night")
    assert not by_image.exact


def test_the_reason_names_the_probability_and_what_the_clock_would_have_said(open_localizer):
    by_clock = localize(open_localizer(), texture(3)).domain
    by_image = localize(open_localizer(from_image=True), texture(3)).domain
    assert by_image.reason == f"night: by the image (95 %); clock alone: {by_clock.reason}"
    assert replace(by_image, name="day", reason=by_clock.reason) == by_clock


def test_a_clock_that_settles_the_domain_is_believed(open_localizer):
    localizer = open_localizer(from_image=True)
    localizer.model.classifier = always("day")
    night = localize(localizer, texture(3), MIDNIGHT_NS, **DRESDEN).domain
    assert night.name == "night" and night.exact and "image" not in night.reason
    localizer.model.classifier = always("night")
    assert localize(localizer, texture(3), NOON_NS, **DRESDEN).domain.name == "day"


def test_the_image_chooses_only_among_domains_that_the_sun_allows(open_localizer):
    domains = [
        Domain("day", sun_elevation=(6.0, 90.0), weather=("rain",)),
        Domain("snowy_day", sun_elevation=(6.0, 90.0), weather=("snow",)),
        Domain("night", sun_elevation=(-90.0, -6.0)),
    ]
    chooser = DomainChooser(domains)
    assert chooser.of_this_light(NOON_NS, **DRESDEN) == ["day", "snowy_day"]
    assert chooser.of_this_light(MIDNIGHT_NS, **DRESDEN) == ["night"]
    assert chooser.of_this_light(None, **DRESDEN) == ["day", "snowy_day", "night"]
    assert always("night").classify(texture(3), ["day"])[0] == "day"


def test_an_override_is_believed(open_localizer):
    localizer = open_localizer(from_image=True)
    assert localize(localizer, texture(3), domain="day").domain.name == "day"
    fixed = open_localizer(from_image=True, override="day")
    assert "override" in localize(fixed, texture(3)).domain.reason


def test_the_encoder_of_the_images_domain_is_used(open_localizer):
    localizer = open_localizer(from_image=True)
    for parameter in localizer.model.fine["night"].parameters():
        parameter.data += 0.1
    by_image = localize(localizer, texture(5)).best.fine_score
    assert by_image == localize(localizer, texture(5), domain="night").best.fine_score
    assert by_image != localize(localizer, texture(5), domain="day").best.fine_score


def test_without_a_classifier_the_setting_is_refused_with_the_remedy(open_localizer):
    open_localizer().model.classifier = None
    with pytest.raises(ConfigError, match=r"'model' has none.*training\.domain_classifier"):
        open_localizer(from_image=True)


# Training


def write_colours(folder, count=6, colours=None):
    """A folder per domain: days are bluish, nights reddish, equally bright on average."""
    for domain, colour in (colours or {"day": (0, 0, 90), "night": (90, 0, 0)}).items():
        for k in range(count):
            image = np.clip(texture(k) // 2 + np.array(colour), 0, 255).astype(np.uint8)
            path = folder / domain / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[..., ::-1])
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
    one, two, other = (training.fit(store, ["day", "night"], 3, seed) for seed in (0, 0, 1))
    assert same(one, two)
    assert not same(one, other)


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


def test_data_that_does_not_fit_is_refused_before_training(tmp_path):
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
    assert load_model(tmp_path / "model").classifier is None


def test_errors_end_the_command_with_status_1_and_no_traceback(tmp_path, caplog):
    missing = str(tmp_path / "missing")
    assert training.main(["--model", missing, "--data", missing]) == 1
    assert "is not a model directory" in caplog.text


# The benchmark


def test_the_benchmark_leaves_out_what_is_missing(tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
    from benchmark.accuracy.domains import measure

    model = tmp_path / "model"
    assert measure(tmp_path / "no_webcams", model) == {}
    save_tiny_model(model)
    cams = write_webcams(tmp_path / "cams")
    assert measure(cams, model) == {}
    add_classifier(model, always("night"), {})
    result = measure(cams, model)["webcams"]
    assert result["accuracy"] == 0.5
    assert result["confusion"]["day"] == {"day": 0, "night": 8}
