# SPDX-License-Identifier: Apache-2.0
"""Encoders by torch and by ONNX Runtime, and the ONNX files of a model directory."""

import pickle
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.data import save_tiny_model, texture, write_dataset
from support.faults import fill_weights
from support.localize import localize

from disam_ros.cli import main
from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.device import has_cuda_driver
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.checking import build
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models import export
from disam_ros.models.backend import TorchBackend, select_backend
from disam_ros.models.export import TOLERANCE, export_onnx, relative_error
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_backend import OnnxBackend

MOBILE = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")
CPU, GPU = "cpu", "cuda"


@pytest.fixture(scope="module")
def exported(packages, tmp_path_factory):
    """Directories of models with ONNX files, by kind of network."""
    root = tmp_path_factory.mktemp("exported")
    save_tiny_model(root / "disam")
    mobile = create_model(MOBILE, [Domain("day"), Domain("night")], seed=1)
    mobile.fine = mobile.coarse
    save_model(mobile, root / "mobile", half=True)
    for name in ("disam", "mobile"):
        assert main(["export", "--model", str(root / name)]) == 0
    return root


@pytest.fixture
def copied(exported, tmp_path):
    """A model directory of the test's own."""
    return shutil.copytree(exported / "disam", tmp_path / "copied")


def images(batch, network):
    return torch.rand(batch, 3, *network.image_size) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["disam", "mobile"])
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_gives_torchs_features_of_each_stage_and_domain(exported, kind, batch):
    model = load_model(exported / kind)
    backend = pickle.loads(pickle.dumps(OnnxBackend(model)))
    tensor = images(batch, model.network)
    for domain in model.domain_names():
        features = backend.encode(domain, tensor.numpy())
        expected = TorchBackend(model, CPU).encode(domain, tensor.numpy())
        for z, known in zip(features, expected, strict=True):
            assert z.shape == known.shape and relative_error(z, known) < TOLERANCE
        assert (relative_error(*features) < TOLERANCE) == model.shared


@pytest.mark.slow
def test_weights_stand_in_the_safetensors_alone(exported):
    weights = (exported / "mobile" / "encoder.safetensors").stat().st_size
    data = (exported / "mobile" / "day.onnx").read_bytes()
    assert len(data) < weights / 20
    assert b".py" not in data and str(exported).encode() not in data  # no paths of this machine


def test_torch_in_the_form_for_a_cpu_gives_the_networks_own_features():
    model = create_model(MOBILE, [Domain("day")])
    tensor = images(2, MOBILE)
    with torch.inference_mode():
        expected = model.coarse["day"](tensor), model.fine["day"](tensor)
    features = TorchBackend(model, CPU).encode("day", tensor.numpy())
    for z, known in zip(features, expected, strict=True):
        assert z.shape == known.shape and relative_error(z, known) < TOLERANCE


TORCH_FREE = """
import sys
import numpy as np
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
import disam_ros.nodes.localizer.node, disam_ros.nodes.map_builder.node
import disam_ros.slam.loop_closure
data, model, out = sys.argv[1:]
build_map(open_dataset(data), load_model(model), out, MapBuilderConfig(domain="day"), "cpu", False)
localizer = Localizer.open(out, model, LocalizerConfig())
image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
(localized,) = Pipeline(localizer).process([Shot(Frame(image, "front", domain="night"))])
localizer.activation_map(localized.query, localized.answer.record)
assert localizer.backend.name == "onnx"
assert "torch" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.skipif(has_cuda_driver(), reason="on a machine with a GPU torch runs the encoders")
def test_on_a_cpu_maps_are_built_and_images_localized_without_torch(exported, tmp_path):
    pytest.importorskip("rclpy")
    write_dataset(tmp_path / "data", 4)
    paths = [str(path) for path in (tmp_path / "data", exported / "mobile", tmp_path / "map")]
    ran = subprocess.run(
        [sys.executable, "-c", TORCH_FREE, *paths], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_a_c_library_that_cannot_keep_memory_is_left_alone(model, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert TorchBackend(model, CPU).encode("day", images(1, model.network).numpy())


@pytest.mark.slow
def test_the_localizer_answers_the_same_through_every_backend(exported, tmp_path, builder_config):
    directory = exported / "disam"
    source = open_dataset(write_dataset(tmp_path / "data", 8).directory)
    build_map(source, load_model(directory), tmp_path / "map", builder_config, show_progress=False)
    config = LocalizerConfig(device="cpu", domain=DomainConfig(override="day"))
    for query in (3, 99):
        answers = []
        for backend in ("torch", "onnx"):
            localizer = Localizer.open(
                tmp_path / "map", directory, replace(config, backend=backend)
            )
            assert localizer.backend.name == backend
            answers.append(localize(localizer, texture(query)))
        one, other = ([c.record.id for c in answer.candidates] for answer in answers)
        assert one == other
        for a, b in zip(*(answer.candidates for answer in answers), strict=True):
            assert a.coarse_score == pytest.approx(b.coarse_score, abs=TOLERANCE)
            assert a.fine_score == pytest.approx(b.fine_score, abs=TOLERANCE)


@pytest.mark.slow
def test_auto_is_torch_until_there_are_onnx_files(exported, tmp_path, caplog):
    caplog.set_level("INFO")
    model = save_tiny_model(tmp_path / "model")
    assert select_backend("auto", model, CPU).name == "torch"
    assert "no ONNX files of day, night; write them: disam export --model" in caplog.text
    model = load_model(exported / "disam")
    assert select_backend("auto", model, CPU).name == "onnx"
    assert select_backend("auto", deepcopy(model), "meta").name == "torch"


@pytest.mark.slow
def test_auto_without_the_package_is_torch_and_says_so(copied, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select_backend("auto", load_model(copied), CPU).name == "torch"
    assert "the package onnxruntime is not installed" in caplog.text


@pytest.mark.slow
def test_a_file_that_is_missing_or_damaged_is_named(copied):
    model, path = load_model(copied), copied / "night.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"night\.onnx is damaged.*disam export --model"):
        select_backend("auto", model, CPU)
    path.unlink()
    with pytest.raises(ModelError, match=r"night\.onnx not found"):
        select_backend("onnx", model, CPU)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "have no variance"), (np.nan, "are not finite")]
)
def test_an_exported_encoder_that_gives_no_features_is_a_fault_of_the_file(copied, value, words):
    fill_weights(copied, value)
    backend = select_backend("onnx", load_model(copied), CPU)
    with pytest.raises(ModelError, match=rf"day\.onnx, domain 'day', gives features that {words}"):
        backend.encode("day", np.random.default_rng(0).random((1, 3, 48, 64), np.float32))


def test_a_missing_package_is_named_with_how_to_install_it(model, monkeypatch):
    for name in export.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install onnxruntime, or set backend"):
        select_backend("onnx", model, CPU)
    with pytest.raises(ConfigError, match="pip install onnx onnxscript onnxruntime"):
        export_onnx(model.directory)


def test_an_unknown_backend_is_refused(model):
    with pytest.raises(ConfigError, match="expects one of auto, torch, onnx"):
        build(LocalizerConfig, {"backend": "tensorrt"})
    with pytest.raises(ConfigError, match="use auto, torch, onnx"):
        select_backend("tensorrt", model, CPU)


def test_onnx_on_a_gpu_or_without_files_is_refused(model):
    with pytest.raises(ConfigError, match="set device to 'cpu'"):
        select_backend("onnx", model, GPU)
    with pytest.raises(ConfigError, match="it was never saved"):
        select_backend("onnx", create_model(MOBILE, [Domain("day")]), CPU)
    with pytest.raises(ConfigError, match="lacks ONNX files in float32 of day, night; write"):
        select_backend("onnx", model, CPU)


@pytest.mark.slow
def test_an_export_that_differs_from_torch_is_an_error_and_changes_nothing(
    packages, tmp_path, monkeypatch
):
    save_tiny_model(tmp_path / "model")
    before = sorted(path.name for path in (tmp_path / "model").iterdir())
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="domain 'day' differs from torch"):
        export_onnx(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before
    assert load_model(tmp_path / "model").onnx == {}
