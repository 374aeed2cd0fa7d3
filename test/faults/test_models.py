# SPDX-License-Identifier: Apache-2.0
"""Faults of models: what is injected, where, what must be seen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.data import DESCRIPTOR, save_tiny_model, texture
from support.faults import edit_json, fill_weights
from support.localize import localize
from support.maps import save_tiny_map

from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import PosedImage, open_dataset
from disam_ros.errors import BlindError, MapError, ModelError
from disam_ros.localization.calibration import DEFAULT, load_calibration, save_calibration
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.arrays import require_features
from disam_ros.models.model import load_model

CPU = "cpu"
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    model = save_tiny_model(root / "model")
    save_tiny_map(root / "map", model)
    save_calibration(DEFAULT, root / "model")
    return root


@pytest.fixture
def world(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "world")


HEADER_EDITS = [  # one of each kind: all values are checked by the same code
    (lambda v: v.update(format_version=2), "version 2, expected 1; .* 'disam import-model'"),
    (lambda v: v.update(sha256=None), "'sha256' expects an object of which each value is a text"),
    (lambda v: v["sha256"].pop("fine"), "'sha256' lacks 'fine'"),
    (lambda v: v["sha256"].update(fine="0" * 64), "fine.safetensors is damaged: its SHA-256"),
    (lambda v: v["network"].update(width=2**40), "width must be 1 to 1024"),
    (lambda v: v["network"].update(width=1000), "too small for the network"),
    (lambda v: v["network"].pop("image_size"), "'image_size' expects a list of 2.*it is missing"),
    (lambda v: v["network"].update(image_size=[10**6] * 2), "16 to 4096, got 1000000x1000000"),
    (lambda v: v["network"].update(encoder="transformer"), "one of disam, mobile"),
    (lambda v: v["network"].update(colour=1), "unknown name 'colour'; expected width"),
    (lambda v: v.update(name="x" * 2**21), "'name' expects a text of up to 4096 characters"),
    (lambda v: v.update(domains=[]), "'domains'"),
    (lambda v: v.update(branches={"day": 1}), "'branches' expects an object of which each"),
]


@pytest.mark.parametrize("number", range(len(HEADER_EDITS)))
def test_a_model_edited_by_hand_is_refused_with_file_key_and_what_was_expected(number, world):
    change, words = HEADER_EDITS[number]
    edit_json(world / "model/model.json", change)
    with pytest.raises(ModelError, match=rf"(?s)model/.*{words}"):
        load_model(world / "model")


def test_a_file_of_weights_without_end_is_refused_before_it_is_read(world):
    path = world / "model" / "fine.safetensors"
    os.truncate(path, 2**36)
    with pytest.raises(ModelError, match="too large for the network"):
        load_model(world / "model")


@pytest.mark.parametrize("name", ["domain", "directions"])
def test_an_added_file_without_end_is_refused_before_it_is_read(world, name):
    edit_json(world / "model/model.json", lambda v: v["sha256"].update({name: "0" * 64}))
    path = world / "model" / f"{name}.safetensors"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(ModelError, match=rf"{name}\.safetensors has 1024.0 GiB; expected weights"):
        load_model(world / "model")


CALIBRATION_EDITS = [
    (lambda v: v.pop("slope"), "'slope' expects a finite number.*; it is missing"),
    (lambda v: v.update(slope=-1), "'slope' expects more than 0"),
    (lambda v: v.update(intercept=NAN), "'intercept' expects a finite number.*; got nan"),
    (lambda v: v.update(growth=[0, 0]), "'growth' 4 numbers"),
    (lambda v: v.update(growth=[1e300] * 4), "'growth' expects a list"),
    (lambda v: v.update(domains={"day": {**v, "low": 1.0}}), "day.*('low' expects|unknown name)"),
    (lambda v: v.update(domains={"day": []}), "day: expected an object"),
    (lambda v: v.update(keypoints={"sift": {}}), "keypoints of 'sift': 'scale' expects"),
    (lambda v: v.update(format_version=None), "'format_version' expects a whole number"),
]


@pytest.mark.parametrize("number", range(len(CALIBRATION_EDITS)))
def test_a_calibration_edited_by_hand_is_refused_with_file_and_key(number, world):
    change, words = CALIBRATION_EDITS[number]
    edit_json(world / "model/calibration.json", change)
    with pytest.raises(ModelError, match=rf"calibration\.json is malformed.*{words}"):
        load_calibration(world / "model")


# Weights that were damaged before their checksums were taken.


def adopt_model(world: Path) -> None:
    """The map refers to the model as it is now."""
    identity = load_model(world / "model").identity
    edit_json(world / "map/map.json", lambda v: v.update(model_identity=identity))


WEIGHTS = {"zeros": (0.0, "have no variance"), "nan": (NAN, "are not finite")}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_give_no_features_are_a_fault_of_the_file_and_no_place(name, world, dataset):
    value, words = WEIGHTS[name]
    fill_weights(world / "model", value)
    adopt_model(world)
    localizer = Localizer.open(world / "map", world / "model", LocalizerConfig(device="cpu"))
    expected = rf"{world / 'model/coarse.safetensors'}, domain 'day', gives features that {words}"
    with pytest.raises(ModelError, match=expected):
        localize(localizer, texture(0), domain="day")
    config = MapBuilderConfig(keypoints=0, descriptor=DESCRIPTOR)
    source = open_dataset(dataset.directory)
    with pytest.raises(ModelError, match=expected):
        build_map(source, load_model(world / "model"), world / "new", config, show_progress=False)
    assert not (world / "new").exists()


MAP, DESCRIPTORS = (2, 3, 4, 5), (2, 8, 1, 1)  # shapes of features
FEATURES = {
    "nan in one cell": (MAP, lambda z: z[0, 1, 2, 3].fill_(NAN)),
    "infinite in one cell": (MAP, lambda z: z[0, 1, 2, 3].fill_(INF)),
    "zeros": (MAP, lambda z: z.zero_()),
    "one number per channel": (MAP, lambda z: z.copy_(z[..., :1, :1].expand_as(z).clone())),
    "the second image's zeros": (MAP, lambda z: z[1].zero_()),
    "descriptors of one number": (DESCRIPTORS, lambda z: z.fill_(1.0)),
    "descriptors of nan": (DESCRIPTORS, lambda z: z.fill_(NAN)),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_that_cannot_be_are_the_encoders_fault_unless_the_image_is_blank(name):
    shape, change = FEATURES[name]
    z, images = torch.rand(shape), torch.rand(2, 3, 8, 8)
    assert require_features(z, images, "file") is z
    change(z)
    with pytest.raises(ModelError, match="file gives features that"):
        require_features(z, images, "file")
    with pytest.raises(BlindError, match="of one colour"):
        require_features(z, torch.zeros(2, 3, 8, 8), "file")


@pytest.mark.parametrize("colour", [0, 127, 255])
def test_an_image_of_one_colour_is_skipped_and_named_in_a_map(colour, world, dataset, caplog):
    source = open_dataset(dataset.directory)
    blank = np.full((48, 64, 3), colour, np.uint8)
    images: list[PosedImage] = list(source.images)
    images[2] = PosedImage(images[2].record, lambda: blank)
    source = type(source)(images, source.info, source.identity, source.total)
    config = MapBuilderConfig(keypoints=0, descriptor=DESCRIPTOR)
    model = load_model(world / "model")
    assert len(build_map(source, model, world / "new", config, show_progress=False)) == 11
    assert f"{images[2].record.source}: the image is of one colour" in caplog.text


GRIDS = ["coarse_grid", "fine_grid"]


@pytest.mark.parametrize("name", GRIDS)
def test_a_map_whose_descriptors_are_of_another_size_is_refused(name, world):
    edit_json(world / "map/map.json", lambda v: v["descriptor"].update({name: 2}))
    with pytest.raises(MapError, match=rf"map\.json: 'descriptor' has a {name} of"):
        Localizer.open(world / "map", world / "model", LocalizerConfig(device="cpu"))
