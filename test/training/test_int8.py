# SPDX-License-Identifier: Apache-2.0
"""Quantizing mobile encoders."""

import shutil

import onnx
import pytest
import yaml
from support.data import save_tiny_model
from support.training_data import write_drive, write_webcams

from disam_ros.domains.domain import Domain
from disam_ros.models.arrays import sample_images
from disam_ros.models.export import export_onnx
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig
from training import int8

pytestmark = pytest.mark.slow
MOBILE = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A mobile model with its ONNX files; data and validation drives."""
    tmp_path = tmp_path_factory.mktemp("int8")
    model = create_model(MOBILE, [Domain("day"), Domain("night")])
    model.fine = model.coarse
    save_model(model, tmp_path / "model")
    export_onnx(tmp_path / "model")
    write_webcams(tmp_path / "webcams")
    for domain in ("day", "night"):
        write_drive(tmp_path / "drives" / domain, domain, 4)
    return tmp_path


@pytest.fixture
def recipe(prepared, tmp_path):
    """The path of a recipe beside a copy of the model and the data."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    recipe = {
        "data": [f"webcams:{tmp_path / 'webcams'}"],
        "validation": {"data": [str(tmp_path / "drives")], "reference": "day"},
        "network": {"encoder": "mobile", "width": 28, "image_size": [32, 48]},
        "stages": [{"name": "fine", "steps": 1, "aligned_batch": 2, "losses": {"contrastive": 1}}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "recipe.yaml"


def run(model, recipe, *more):
    return int8.main(["--model", str(model), "--config", str(recipe), *more])


def test_the_command_adds_files_and_what_they_cost(recipe, capsys):
    model = recipe.parent / "model"
    identity = load_model(model).identity
    assert run(model, recipe, "--images", "2") == 0
    assert "recall@1" in capsys.readouterr().out
    loaded = load_model(model)
    note = loaded.training["int8"]
    assert loaded.identity == identity and {"day.int8.onnx", "night.int8.onnx"} < set(loaded.onnx)
    assert note["images"] == {"day": 2, "night": 2} and note["commit"] is not None
    assert set(note["validation"]["recall"]) == {"float32", "int8"}
    assert run(model, recipe, "--images", "2", "--validation") == 0
    assert load_model(model).training["int8"]["validation"] is None


def test_stem_first_block_and_features_stay_in_floating_point(recipe, tmp_path):
    model = load_model(recipe.parent / "model")
    images = [image[None] for image in sample_images(MOBILE.image_size)]
    int8.quantize_encoders(int8.encoder_graph(model, "day"), images, tmp_path / "day.onnx")
    graph = onnx.load(tmp_path / "day.onnx").graph
    floats = [tensor.name for tensor in graph.initializer if tensor.data_type == 1 and tensor.dims]
    kernels = {name for name in floats if name.endswith("weight") and "scale" not in name}
    first = ("stem", "blocks.0.depthwise", "blocks.0.project")
    assert kernels == {f"shared.{name}.weight" for name in first}
    assert graph.node[-1].op_type in ("Add", "Identity")


def test_data_without_a_domain_of_the_model_change_nothing(recipe, caplog):
    model = recipe.parent / "model"
    before = (model / "model.json").read_bytes()
    assert run(model, recipe, "--data", str(recipe.parent / "drives" / "day")) == 1
    assert "no images of night" in caplog.text
    assert (model / "model.json").read_bytes() == before and not list(model.glob("*.int8.onnx"))


def test_other_networks_are_refused(recipe, tmp_path, caplog):
    save_tiny_model(tmp_path / "paper")
    assert run(tmp_path / "paper", recipe) == 1
    assert "8-bit integers are for mobile encoders" in caplog.text
