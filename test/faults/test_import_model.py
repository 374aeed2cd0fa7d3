# SPDX-License-Identifier: Apache-2.0
"""ONNX files that are no descriptors, or no files to read: refused before anything is written."""

from __future__ import annotations

import os

import pytest
from support.faults import edit_json
from support.imports import MAP, imported_model, run_import
from support.onnx_files import DESCRIPTOR, write_onnx

from disam_ros.errors import ModelError
from disam_ros.files.outputs import MANIFEST
from disam_ros.models.model import load_model

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[onnx]'")

TRAINING = "on = Constant <value = bool {1}> ()\nrate = Constant <value_float = 0.5> ()\n"
RANDOM = {
    "dropout": f"{TRAINING}flat = Flatten (image)\nz = Dropout (flat, rate, on)",
    "noise": "noise = RandomNormalLike <scale = 0.01> (image)\nsum = Add (image, noise)\n"
    "z = Flatten (sum)",
    "a seeded noise": "noise = RandomUniformLike <seed = 3.0> (image)\n"
    "sum = Add (image, noise)\nz = Flatten (sum)",
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_network_with_random_layers_is_refused(name, tmp_path):
    with pytest.raises(ModelError, match=r"differs when the same image is run again.*evaluation"):
        imported_model(tmp_path, RANDOM[name])
    assert not (tmp_path / "model").exists()


def test_dropout_in_evaluation_mode_is_no_random_layer(tmp_path):
    imported_model(tmp_path, f"{DESCRIPTOR.replace('z =', 'y =')}\nz = Dropout (y)")


TYPES = {
    "texts": ("string[N, D] z", "flat = Flatten (image)\nz = Cast <to = 8> (flat)"),
    "truths": ("bool[N, D] z", "flat = Flatten (image)\nz = Cast <to = 9> (flat)"),
}


@pytest.mark.parametrize("name", TYPES)
def test_outputs_that_are_no_numbers_are_refused(name, tmp_path):
    outputs, body = TYPES[name]
    with pytest.raises(ModelError, match=r"output 'z' is tensor\(\w+\), expected numbers"):
        imported_model(tmp_path, body, outputs=outputs)


def test_outputs_of_other_floats_are_descriptors(tmp_path):
    body = "y = AveragePool <kernel_shape = [1, 1]> (image)\nz = Cast <to = 11> (y)"
    assert imported_model(tmp_path, body, outputs=MAP.replace("float", "double"))


@pytest.mark.parametrize("size", [2**30, 2**32])
def test_a_file_of_nothing_is_refused_before_it_is_read(size, tmp_path, monkeypatch):
    import onnx

    path = tmp_path / "sparse.onnx"
    sound = write_onnx(tmp_path / "sound.onnx", DESCRIPTOR).read_bytes()
    monkeypatch.setattr(onnx, "load", lambda *_, **__: pytest.fail("it is read"))
    for start in (b"", sound):
        path.write_bytes(start)
        os.truncate(path, size)
        with pytest.raises(ModelError, match=r"sparse\.onnx (cannot be read as|has 4\.0 GiB)"):
            run_import(path, tmp_path / "model")


@pytest.mark.parametrize("name", [MANIFEST, f"{MANIFEST}.part", "directions.safetensors"])
def test_weights_in_a_file_that_a_model_directory_has_itself_are_refused(name, tmp_path):
    import onnx

    path = write_onnx(tmp_path / "net.onnx", f"{DESCRIPTOR.replace('z =', 'y =')}\nz = Add (y, w)")
    proto = onnx.load(str(path))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    proto.graph.initializer.append(tensor)
    path.write_bytes(proto.SerializeToString())
    (tmp_path / name).write_bytes(b"\0\0\0\0")
    with pytest.raises(ModelError, match=r"expected a file of another name next to it"):
        run_import(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_files_of_a_model_must_be_in_its_directory(tmp_path):
    imported_model(tmp_path)
    edit_json(tmp_path / "model/model.json", lambda v: v["network"].update(files=["../z.onnx"]))
    with pytest.raises(ModelError, match="files must be in the model directory"):
        load_model(tmp_path / "model")
