# SPDX-License-Identifier: Apache-2.0
"""The domain classifier: the network, its file in a model directory, what a localizer does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.data import NETWORK, save_tiny_model, texture
from support.localize import localize

from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.choice import DomainChooser
from disam_ros.domains.classifier import DomainClassifier, accuracy, confusion, weight_shapes
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, ImageError, ModelError
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.added_files import add_classifier
from disam_ros.models.model import create_model, load_model, save_model

DRESDEN = {"latitude": 51.0, "longitude": 13.7}
NOON_NS = 1_750_071_600 * 10**9  # 16 June 2025, 11:00 UTC
MIDNIGHT_NS = NOON_NS + 12 * 3600 * 10**9


def always(name):
    """Names every image the same, with a probability of 95 %."""
    weights = {k: np.zeros(shape, np.float32) for k, shape in weight_shapes(2).items()}
    weights["head.bias"] = np.float32(np.log(19)) * np.array([name == "day", name == "night"])
    return DomainClassifier(("day", "night"), weights)


def random(*domains):
    """A classifier of random weights."""
    generator = np.random.default_rng(0)
    shapes = weight_shapes(len(domains))
    weights = {k: generator.normal(0, 0.2, s).astype(np.float32) for k, s in shapes.items()}
    return DomainClassifier(domains, weights)


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


def test_a_model_keeps_its_classifier_and_its_identity(tmp_path):
    model = create_model(NETWORK, [Domain("day", sun_elevation=(0.0, 90.0)), Domain("night")])
    save_model(model, tmp_path / "without", half=True)
    (tmp_path / "without" / "domain.safetensors").write_bytes(b"left over, not listed")
    without = load_model(tmp_path / "without")
    model.classifier = random("day", "night")
    save_model(model, tmp_path / "with", half=True)
    loaded = load_model(tmp_path / "with")
    assert without.classifier is None
    assert loaded.identity == without.identity
    images = np.random.default_rng(0).random((2, 3, 48, 64), np.float32) * 2 - 1
    assert np.array_equal(
        loaded.classifier.logits(images), model.classifier.logits(images)
    )  # in full precision


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
    original, count = Path.replace, 0

    def replace_some(source, target):
        nonlocal count
        if count == replaced:
            raise KeyboardInterrupt
        count += 1
        original(source, target)

    monkeypatch.setattr(Path, "replace", replace_some)
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


def test_a_classifier_of_other_domains_or_weights_is_refused(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    other = random("night", "day")
    with pytest.raises(ModelError, match="domains night, day, expected the model's"):
        add_classifier(tmp_path / "model", other, {})
    model.classifier = other
    with pytest.raises(ModelError, match="in their order: day, night"):
        save_model(model, tmp_path / "new")
    with pytest.raises(ModelError, match="not a model directory"):
        add_classifier(tmp_path / "nothing", other, {})
    with pytest.raises(ModelError, match="do not fit the network"):
        DomainClassifier(("day",), other.weights)


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


def test_the_images_domain_is_used_only_when_asked_for_and_says_so(open_localizer):
    by_clock = localize(open_localizer(), texture(3)).domain
    by_image = localize(open_localizer(from_image=True), texture(3)).domain
    assert (by_clock.name, by_image.name) == ("day", "night")
    assert not by_image.exact
    assert by_image.reason == f"night: by the image (95 %); clock alone: {by_clock.reason}"
    assert replace(by_image, name="day", reason=by_clock.reason) == by_clock


def test_a_clock_that_settles_the_domain_and_an_override_are_believed(open_localizer):
    localizer = open_localizer(from_image=True)
    assert localize(localizer, texture(3), NOON_NS, **DRESDEN).domain.name == "day"
    assert localize(localizer, texture(3), domain="day").domain.name == "day"
    fixed = open_localizer(from_image=True, override="day")
    assert "override" in localize(fixed, texture(3)).domain.reason
    localizer.model.classifier = always("day")
    night = localize(localizer, texture(3), MIDNIGHT_NS, **DRESDEN).domain
    assert night.name == "night" and night.exact and "image" not in night.reason


def test_the_image_chooses_only_among_domains_that_the_sun_allows():
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
