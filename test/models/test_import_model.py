# SPDX-License-Identifier: Apache-2.0
"""ONNX networks of other projects as models: import, directory, maps, answers."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from support.data import texture, write_dataset
from support.imports import MAP, MEAN, SIZE, STD, command, images, imported_model, run_import
from support.onnx_files import DESCRIPTOR, FEATURE_MAP, IMAGES, write_onnx

from disam_ros.cli import main
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.classifier import DomainClassifier, weight_shapes
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.outputs import MANIFEST
from disam_ros.image import to_tensor
from disam_ros.mapping.builder import build_map
from disam_ros.models.added_files import add_classifier
from disam_ros.models.imported import allows_commercial_use
from disam_ros.models.model import load_model, save_model

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[onnx]'")


def test_the_network_sees_the_image_less_its_mean_by_its_deviation(tmp_path):
    body = "z = AveragePool <kernel_shape = [1, 1]> (image)"
    model = imported_model(tmp_path, body, outputs=MAP)
    pixels = texture(3)
    mean, deviation = np.array(MEAN), np.array(STD)
    expected = ((pixels / 255.0 - mean) / deviation).transpose(2, 0, 1)
    result = model.coarse["any"](to_tensor(pixels, SIZE)[None])[0]
    assert np.allclose(result.numpy(), expected, atol=1e-5)


def test_a_descriptor_is_one_cell_and_a_feature_map_stays_one(tmp_path):
    model = imported_model(tmp_path)
    assert (model.network.channels, model.network.feature_size) == (144, (1, 1))
    assert model.coarse["any"](images(3)).shape == (3, 144, 1, 1)
    file = write_onnx(tmp_path / "map.onnx", FEATURE_MAP, outputs=MAP)
    model = run_import(file, tmp_path / "map_model")
    assert (model.network.channels, model.network.feature_size) == (3, (12, 16))
    assert model.fine["any"](images(3)).shape == (3, 3, 12, 16)


def test_the_directory_holds_the_file_itself_and_its_origin(tmp_path):
    model = imported_model(tmp_path, source="https://example.org")
    directory = tmp_path / "model"
    assert {path.name for path in directory.iterdir()} - {MANIFEST} == {
        "model.json",
        "network.onnx",
    }
    assert (directory / "network.onnx").read_bytes() == (tmp_path / "network.onnx").read_bytes()
    header = json.loads((directory / "model.json").read_text())
    assert header["network"]["encoder"] == "onnx"
    assert header["network"]["image_size"] == [48, 64] and header["network"]["channels"] == 144
    assert header["training"] == {
        "imported_from": "network.onnx",
        "source": "https://example.org",
        "licence": "MIT",
        "commercial_use": True,
    }
    assert model.label == (
        "small (imported global descriptor, 144-D; imported from network.onnx; licence MIT)"
    )


def test_the_identity_is_that_of_the_file_and_of_its_preprocessing(tmp_path):
    model = imported_model(tmp_path)
    file = tmp_path / "network.onnx"
    assert load_model(tmp_path / "model").identity == model.identity != ""
    again = run_import(file, tmp_path / "again", licence="other")
    assert again.identity == model.identity
    other = run_import(file, tmp_path / "other", mean=(0.5, 0.5, 0.5))
    assert other.identity != model.identity


def test_domains_share_the_network_and_both_stages_do(tmp_path):
    model = imported_model(tmp_path, domains=[Domain("day"), Domain("night")])
    assert model.coarse["day"] is model.fine["day"] is model.coarse["night"]
    coarse, fine = model.encode("night", images())
    assert coarse is fine


def test_a_model_survives_saving_and_pickling(tmp_path):
    model = imported_model(tmp_path)
    save_model(model, tmp_path / "copy")
    copy = load_model(tmp_path / "copy")
    sent = pickle.loads(pickle.dumps(model))  # as Ray sends it
    expected = model.coarse["any"](images())
    assert copy.identity == model.identity
    for other in (copy, sent):
        assert torch.equal(other.coarse["any"](images()), expected)


def test_a_domain_classifier_can_be_added(tmp_path):
    model = imported_model(tmp_path, domains=[Domain("day"), Domain("night")])
    weights = {k: np.zeros(shape, np.float32) for k, shape in weight_shapes(2).items()}
    add_classifier(tmp_path / "model", DomainClassifier(("day", "night"), weights), {})
    loaded = load_model(tmp_path / "model")
    assert loaded.classifier is not None and loaded.identity == model.identity


# --- Batches ---


def reshaped(shape):
    return f"s = Constant <value_ints = {shape}> ()\nz = Reshape (image, s)"


MIXED = "mean = ReduceMean (image) sum = Add (image, mean) z = Flatten (sum)"
BY_IMAGE = [  # inputs and body, the last three fail in a batch in ways of their own
    ("float[1, 3, 48, 64] image", DESCRIPTOR),
    *((IMAGES, body) for body in (reshaped([1, 9216]), reshaped([1, -1]), MIXED)),
]


@pytest.mark.parametrize(("inputs", "body"), BY_IMAGE)
def test_a_network_that_cannot_do_batches_runs_image_by_image(tmp_path, caplog, inputs, body):
    model = imported_model(tmp_path, body, inputs)
    assert not model.network.any_batch
    assert ("runs image by image" in caplog.text) == (inputs == IMAGES)
    one_by_one = [model.coarse["any"](image[None]) for image in images(3)]
    assert torch.equal(model.coarse["any"](images(3)), torch.cat(one_by_one))


def test_a_network_with_a_batch_axis_runs_whole_batches(tmp_path, caplog):
    model = imported_model(tmp_path)
    assert model.network.any_batch and caplog.text == ""
    one_by_one = [model.coarse["any"](image[None]) for image in images(3)]
    assert torch.allclose(model.coarse["any"](images(3)), torch.cat(one_by_one), atol=1e-6)


# --- Files that do not fit ---


ANY_SIZE = "float[N, 3, H, W] image"
TWO = {"body": "a = Flatten (image) b = Identity (a)", "outputs": "float[N, D] a, float[N, D] b"}
ONE_NUMBER = {"body": "z = ReduceMean <keepdims = 0> (image)"}
ZERO = "low = Sub (image, image)\nflat = Flatten (low)\n"
UNFIT = [  # what is said of a network and the options of its import
    ("only input", {"inputs": f"{IMAGES}, float[N] mask", "body": "z = Flatten (image)"}),
    (
        "no batch axis: export it with",
        {"inputs": "float[3, 48, 64] image", "body": "z = Abs (image)"},
    ),
    ("with a batch of", {"inputs": "float[N, 9216] image", "body": "z = Identity (image)"}),
    ("channels first", {"inputs": "float[N, 48, 64, 3] image"}),
    ("batches of 8 only", {"inputs": "float[8, 3, 48, 64] image"}),
    (
        "float32 images",
        {"inputs": IMAGES.replace("float", "uint8"), "body": "z = Cast <to = 1> (image)"},
    ),
    ("image size is fixed: --input 48x64, not 96x128", {"image_size": (96, 128)}),
    (
        "does not run on an image of 50x50 pixels: .* give the size that it was exported for",
        {"inputs": ANY_SIZE, "body": reshaped([-1, 9216]), "image_size": (50, 50)},
    ),
    (r"several outputs: a tensor\(float\) \[N, 9216\], b .* --output-name", TWO),
    (r"no output 'features', only z tensor\(float\)", {"output_name": "features"}),
    (r"shape \[\] for one image, expected a descriptor \[B, D\] .* no batch axis", ONE_NUMBER),
    (r"shape \[9216\] for one image, .* no batch axis", {"body": reshaped([-1])}),
    (r"shape \[3, 3072\] for one image, .* no batch axis", {"body": reshaped([3, -1])}),
    (r"turn tokens \[B, h·w, C\] into a map", {"body": reshaped([0, 3, -1])}),
    (r"shape \[1, 3, 6, 8, 64\] .* export another", {"body": reshaped([0, 3, 6, 8, -1])}),
    ("NaN or infinite numbers .*; check --mean and --std", {"body": f"{ZERO}z = Div (flat, flat)"}),
    ("the same for two different images", {"body": f"{ZERO}z = Identity (flat)"}),
    ("mean must be .* divide a mean of grey levels", {"mean": (123.7, 116.3, 103.5)}),
    ("std must be .* > 0", {"std": (0.2, 0.0, 0.2)}),
    ("a name and the licence", {"licence": " "}),
    ("at least one domain", {"domains": []}),
]


@pytest.mark.parametrize(("message", "how"), UNFIT)
def test_a_network_that_does_not_fit_is_refused_with_what_to_do(tmp_path, message, how):
    with pytest.raises(ModelError, match=message):
        imported_model(tmp_path, **{"outputs": "float z", **how})
    assert not (tmp_path / "model").exists()


def test_a_file_that_is_missing_or_no_network_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.onnx not found"):
        run_import(tmp_path / "nothing.onnx", tmp_path / "model")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match=r"text\.onnx cannot be read as an ONNX file"):
        run_import(tmp_path / "text.onnx", tmp_path / "model")
    file = write_onnx(tmp_path / "odd.onnx", "z = Unheard (image)")
    with pytest.raises(ModelError, match=r"odd\.onnx cannot be loaded by ONNX Runtime"):
        run_import(file, tmp_path / "model")
    shutil.copy(file, tmp_path / "model.json")
    with pytest.raises(ModelError, match="rename it"):
        run_import(tmp_path / "model.json", tmp_path / "model")


def test_one_of_several_outputs_can_be_chosen(tmp_path):
    outputs = "float[N, C, h, w] cells, float[N, D] z"
    model = imported_model(tmp_path, outputs=outputs, output_name="cells")
    assert model.network.feature_size == (6, 8)
    assert model.coarse["any"](images()).shape == (2, 3, 6, 8)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    imported_model(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime: pip install 'disam_ros\[onnx\]'"):
        run_import(tmp_path / "network.onnx", tmp_path / "other")
    with pytest.raises(ConfigError, match="onnxruntime: pip install onnxruntime"):
        load_model(tmp_path / "model")


# --- Weights in a side file ---


def with_side_file(path, location="weights.data"):
    """A network whose weights lie in another file."""
    import onnx

    body = "weights = Constant <value = float[144, 200] {1}> ()"
    write_onnx(path, DESCRIPTOR.replace("z =", "flat =") + "z = MatMul (flat, weights)")
    proto = onnx.load(str(path))
    values = np.random.default_rng(0).standard_normal((144, 200)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, "weights"))
    onnx.save_model(proto, str(path), save_as_external_data=True, location=location)
    assert body and (path.parent / location).stat().st_size == values.nbytes
    return path


def test_weights_in_a_side_file_come_along(tmp_path):
    model = run_import(with_side_file(tmp_path / "large.onnx"), tmp_path / "model")
    (tmp_path / "weights.data").unlink()
    loaded = load_model(tmp_path / "model")
    assert loaded.network.files == ("large.onnx", "weights.data")
    assert torch.equal(loaded.coarse["any"](images()), model.coarse["any"](images()))
    path = tmp_path / "model" / "weights.data"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ModelError, match=r"weights\.data is damaged"):
        load_model(tmp_path / "model")


def test_a_side_file_elsewhere_or_missing_is_refused(tmp_path):
    (tmp_path / "deep").mkdir()
    file = with_side_file(tmp_path / "large.onnx", "deep/weights.data")
    with pytest.raises(ModelError, match=r"save it again with .* its weights inside"):
        run_import(file, tmp_path / "model")
    file = with_side_file(tmp_path / "other.onnx")
    (tmp_path / "weights.data").unlink()
    with pytest.raises(ModelError, match=r"weights\.data, which is missing: copy both files"):
        run_import(file, tmp_path / "model")


# --- Damaged directories ---


def test_a_damaged_directory_is_refused(tmp_path):
    imported_model(tmp_path)
    path = tmp_path / "model" / "network.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ModelError, match=r"network\.onnx is damaged: its SHA-256 differs"):
        load_model(tmp_path / "model")
    path.unlink()
    with pytest.raises(ModelError, match=r"network\.onnx not found"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.pop("output"),
        lambda network: network.update(std=[0.1, 0.1, 0.0]),
        lambda network: network.update(files=["network.onnx", "more.data"]),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, change):
    imported_model(tmp_path)
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text())
    change(header["network"])
    path.write_text(json.dumps(header))
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(tmp_path / "model")


def test_an_output_of_another_shape_than_the_header_says_is_an_error(tmp_path):
    imported_model(tmp_path)
    path = tmp_path / "model" / "model.json"
    path.write_text(path.read_text().replace('"channels": 144', '"channels": 100'))
    with pytest.raises(ModelError, match=r"gave \[2, 144\], model.json says \[2, 100, 1, 1\]"):
        load_model(tmp_path / "model").coarse["any"](images())


# --- Licences ---


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", True),
        ("MIT AND BSD-3-Clause", True),
        ("CC-BY-NC-4.0 OR MIT", True),
        ("CC BY-NC-ND 4.0", False),
        ("MIT AND CC-BY-NC-4.0", False),
        ("MIT code, weights for non-commercial use", False),
        ("PolyForm-Noncommercial-1.0.0", False),
        ("for research purposes only", False),
        ("Only for scientific research", False),
        ("free for research and commercial use", None),
        ("Elephant Licence 3", None),
    ],
)
def test_licences_are_recognized(licence, allowed):
    assert allows_commercial_use(licence) is allowed


def test_a_licence_without_commercial_use_is_warned_of_at_import_and_at_map_building(
    tmp_path, caplog, capsys, builder_config
):
    file = write_onnx(tmp_path / "network.onnx")
    assert main(command(file, tmp_path / "model", "--licence", "CC-BY-NC-4.0")) == 0
    assert "licence CC-BY-NC-4.0: FORBIDS COMMERCIAL USE" in capsys.readouterr().out
    warning = "the licence of model 'small', CC-BY-NC-4.0, forbids commercial use"
    assert warning in caplog.text
    caplog.clear()
    model = load_model(tmp_path / "model")
    source = open_dataset(write_dataset(tmp_path / "data", 3).directory)
    build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    assert warning in caplog.text
    header = json.loads((tmp_path / "model" / "model.json").read_text())
    assert header["training"]["commercial_use"] is False


def test_an_unknown_licence_is_to_be_read(tmp_path, capsys, caplog):
    file = write_onnx(tmp_path / "network.onnx")
    assert main(command(file, tmp_path / "model", "--licence", "Elephant Licence")) == 0
    assert "licence Elephant Licence: not recognized: read" in capsys.readouterr().out
    header = json.loads((tmp_path / "model" / "model.json").read_text())
    assert header["training"]["commercial_use"] is None
    assert "forbids" not in caplog.text
