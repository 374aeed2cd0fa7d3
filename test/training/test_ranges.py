# SPDX-License-Identifier: Apache-2.0
"""Measuring the ranges of activations."""

import numpy as np
import pytest
import torch
import yaml
from support.data import save_tiny_model
from support.training_data import write_drive, write_webcams
from torch.nn import functional

from disam_ros.domains.domain import Domain
from disam_ros.models.mobile import MobileEncoder
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_runtime.int8_graph import range_names
from training import ranges

MOBILE = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")


@pytest.fixture
def recipe(tmp_path):
    """A mobile model, data and validation drives; the path of the recipe."""
    model = create_model(MOBILE, [Domain("day"), Domain("night")])
    model.fine = model.coarse
    save_model(model, tmp_path / "model")
    write_webcams(tmp_path / "webcams")
    for domain in ("day", "night"):
        write_drive(tmp_path / "drives" / domain, domain, 4)
    recipe = {
        "data": [f"webcams:{tmp_path / 'webcams'}"],
        "validation": {"data": [str(tmp_path / "drives")], "reference": "day"},
        "network": {"encoder": "mobile", "width": 28, "image_size": [32, 48]},
        "stages": [{"name": "fine", "steps": 1, "aligned_batch": 2, "losses": {"contrastive": 1}}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "recipe.yaml"


def run(model, recipe, *more):
    return ranges.main(["--model", str(model), "--config", str(recipe), *more])


def test_ranges_are_means_over_images_of_the_ends_of_every_layer():
    encoder, images = MobileEncoder().eval(), torch.rand(3, 3, 32, 48) * 2 - 1
    found = dict(zip(range_names(), ranges.ranges_of(encoder, images), strict=True))
    with torch.inference_mode():
        x = functional.relu6(encoder.stem(images))
        x = encoder.blocks[0](x)  # its output has the first range
    ends = torch.stack([x.amin((1, 2, 3)), x.amax((1, 2, 3))], 1).mean(0)
    assert np.allclose(found["blocks.0.project"], ends, atol=1e-5)
    assert "stem" not in found and not encoder.stem._forward_hooks


def test_the_command_adds_ranges_and_what_they_cost(recipe, capsys):
    model = recipe.parent / "model"
    assert run(model, recipe, "--images", "2") == 0
    assert "recall@1" in capsys.readouterr().out
    loaded = load_model(model)
    note = loaded.training["ranges"]
    assert sorted(loaded.ranges) == ["encoder/day", "encoder/night"]
    assert note["images"] == {"day": 2, "night": 2} and note["commit"] is not None
    assert set(note["validation"]["recall"]) == {"float32", "int8"}
    assert run(model, recipe, "--images", "2", "--validation") == 0
    assert load_model(model).training["ranges"]["validation"] is None


def test_data_without_a_domain_of_the_model_change_nothing(recipe, caplog):
    model = recipe.parent / "model"
    before = (model / "model.json").read_bytes()
    assert run(model, recipe, "--data", str(recipe.parent / "drives" / "day")) == 1
    assert "no images of night" in caplog.text
    assert (model / "model.json").read_bytes() == before and not list(model.glob("ranges*"))


def test_other_networks_are_refused(recipe, tmp_path, caplog):
    save_tiny_model(tmp_path / "paper")
    assert run(tmp_path / "paper", recipe) == 1
    assert "8-bit integers are for mobile encoders" in caplog.text
