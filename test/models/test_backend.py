# SPDX-License-Identifier: Apache-2.0
import pickle
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from support.data import save_tiny_model, texture, write_dataset
from support.localize import localize

from disam_ros.cli import main
from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.device import has_cuda_driver
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, DomainError, ModelError, OutputError
from disam_ros.files.checking import build
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models import export, model_files
from disam_ros.models.backend import OnnxBackend, TorchBackend, select_backend, write_checksums
from disam_ros.models.export import TOLERANCE, export_onnx, relative_error
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig

MOBILE = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")
CPU, GPU = "cpu", "cuda"


@pytest.fixture(scope="module")
def packages():
    for name in export.PACKAGES:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")


@pytest.fixture(scope="module")
def exported(packages, tmp_path_factory):
    """A tiny model and the directory it was saved to and exported in."""
    directory = tmp_path_factory.mktemp("exported") / "model"
    model = save_tiny_model(directory)
    assert main(["export", "--model", str(directory), "--onnx"]) == 0
    return model, directory


@pytest.fixture
def copied(exported, tmp_path):
    """The same in a directory of the test's own."""
    model, directory = exported
    return model, shutil.copytree(directory, tmp_path / "copied")


def images(batch, network):
    return torch.rand(batch, 3, *network.image_size) * 2 - 1


def features_agree(model, directory, batch):
    backends = TorchBackend(model, CPU), OnnxBackend(model, directory)
    tensor = images(batch, model.network)
    for domain in model.domain_names():
        features = [backend.encode(domain, tensor.numpy()) for backend in backends]
        for expected, z in zip(*features, strict=True):
            assert z.shape == expected.shape and len(z) == batch
            assert relative_error(z, expected) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_exported_encoders_give_torchs_features_for_any_batch(exported, batch):
    model, directory = exported
    features_agree(model, directory / "onnx", batch)


@pytest.mark.slow
def test_exported_mobile_encoders_give_torchs_features(packages, tmp_path):
    model = create_model(MOBILE, [Domain("day")])
    save_model(model, tmp_path / "model")
    assert export_onnx(model, tmp_path / "files")["day"] < TOLERANCE
    features_agree(model, tmp_path / "files", 2)


def test_torch_in_the_form_for_a_cpu_gives_the_networks_own_features():
    model = create_model(MOBILE, [Domain("day")])
    tensor = images(2, MOBILE)
    with torch.inference_mode():
        expected = model.coarse["day"](tensor), model.fine["day"](tensor)
    for z, known in zip(
        TorchBackend(model, CPU).encode("day", tensor.numpy()), expected, strict=True
    ):
        assert z.shape == known.shape and relative_error(z, known) < TOLERANCE


def test_mobile_encoders_run_in_onnx_runtime_without_an_export(packages, tmp_path):
    model = create_model(MOBILE, [Domain("day"), Domain("night")], seed=1)
    save_model(model, tmp_path / "two", half=True)
    model.fine = model.coarse
    save_model(model, tmp_path / "shared", half=True)
    for name in ("two", "shared"):
        loaded = load_model(tmp_path / name)
        given = images(3, MOBILE).numpy()
        backend = select_backend("auto", loaded, CPU)
        assert backend.name == "onnx" and not loaded.coarse._networks  # no network of torch
        found = pickle.loads(pickle.dumps(backend)).encode("night", given)
        for z, known in zip(found, TorchBackend(loaded, CPU).encode("night", given), strict=True):
            assert z.shape == known.shape and relative_error(z, known) < 1e-5


def test_weights_of_another_shape_are_no_mobile_encoder(tmp_path):
    model = create_model(MOBILE, [Domain("day")])
    model.fine = model.coarse
    save_model(model, tmp_path / "model")
    arrays = model_files.read_arrays(
        tmp_path / "model" / "encoder.safetensors",
        model_files.read_header(tmp_path / "model")["sha256"]["encoder"],
    )
    arrays["day/stem.bias"] = arrays["day/stem.bias"][:8]
    header = model_files.read_header(tmp_path / "model")
    path = tmp_path / "model" / "encoder.safetensors"
    header["sha256"]["encoder"] = model_files.write_arrays(path, arrays)
    model_files.write_header(tmp_path / "model", header)
    with pytest.raises(ModelError, match=r"day: weights do not fit the network: 'stem\.bias'"):
        load_model(tmp_path / "model")


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


@pytest.mark.skipif(has_cuda_driver(), reason="on a machine with a GPU torch runs the encoders")
def test_on_a_cpu_maps_are_built_and_images_localized_without_torch(packages, tmp_path):
    pytest.importorskip("rclpy")
    write_dataset(tmp_path / "data", 4)
    model = create_model(MOBILE, [Domain("day"), Domain("night")])
    save_model(model, tmp_path / "model")
    paths = [str(tmp_path / name) for name in ("data", "model", "map")]
    found = subprocess.run(
        [sys.executable, "-c", TORCH_FREE, *paths], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_a_c_library_that_cannot_keep_memory_is_left_alone(model, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert TorchBackend(model, CPU).encode("day", images(1, model.network).numpy())


@pytest.mark.slow
def test_coarse_and_fine_features_are_not_mistaken_for_each_other(exported):
    model, directory = exported
    tensor = images(1, model.network)
    coarse, fine = OnnxBackend(model, directory / "onnx").encode("day", tensor.numpy())
    assert relative_error(coarse, model.coarse["day"](tensor)) < TOLERANCE
    assert relative_error(fine, model.coarse["day"](tensor)) > 0.1


@pytest.mark.slow
def test_the_localizer_answers_the_same_through_every_backend(exported, tmp_path, builder_config):
    model, directory = exported
    source = open_dataset(write_dataset(tmp_path / "data", 8).directory)
    build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
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
def test_auto_is_torch_until_all_domains_are_exported(copied, caplog):
    model, directory = copied
    assert select_backend("auto", model, CPU).name == "torch"
    assert select_backend("auto", model, CPU, directory).name == "onnx"
    assert select_backend("auto", deepcopy(model), "meta", directory).name == "torch"
    (directory / "onnx" / "night.onnx").unlink()
    assert select_backend("auto", model, CPU, directory).name == "torch"
    assert "lacks night" in caplog.text


@pytest.mark.slow
def test_auto_without_the_package_is_torch_and_says_so(copied, caplog, monkeypatch):
    model, directory = copied
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select_backend("auto", model, CPU, directory).name == "torch"
    assert "needs the package onnxruntime" in caplog.text


@pytest.mark.slow
def test_a_file_of_another_model_is_refused(copied, tmp_path):
    _, directory = copied
    other = save_tiny_model(tmp_path / "other", seed=9)
    shutil.copytree(directory / "onnx", tmp_path / "other" / "onnx")
    for name in ("auto", "onnx"):
        with pytest.raises(ModelError, match=r"model_identity .* run 'disam export --model"):
            select_backend(name, other, CPU, tmp_path / "other")


@pytest.mark.slow
def test_a_file_of_another_domain_is_refused(copied):
    model, directory = copied
    shutil.copy(directory / "onnx" / "day.onnx", directory / "onnx" / "night.onnx")
    write_checksums(directory / "onnx")
    with pytest.raises(ModelError, match="has domain 'day', expected 'night'"):
        select_backend("onnx", model, CPU, directory)


@pytest.mark.slow
def test_a_file_that_is_missing_or_damaged_is_named(copied):
    model, directory = copied
    path = directory / "onnx" / "night.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"night\.onnx is damaged: its SHA-256 differs"):
        select_backend("onnx", model, CPU, directory)
    write_checksums(directory / "onnx")
    with pytest.raises(ModelError, match=r"night\.onnx cannot be read"):
        select_backend("onnx", model, CPU, directory)
    path.unlink()
    with pytest.raises(ModelError, match=r"night\.onnx not found: run 'disam export --model"):
        select_backend("onnx", model, CPU, directory)


def test_a_missing_package_is_named_with_how_to_install_it(model, tmp_path, monkeypatch):
    for name in export.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'disam_ros\[onnx\]'"):
        select_backend("onnx", model, CPU, tmp_path / "model")
    with pytest.raises(ConfigError, match="pip install onnx onnxscript onnxruntime"):
        export_onnx(model, tmp_path / "files")


def test_an_unknown_backend_is_refused(model):
    with pytest.raises(ConfigError, match="expects one of auto, torch, onnx"):
        build(LocalizerConfig, {"backend": "tensorrt"})
    with pytest.raises(ConfigError, match="use auto, torch, onnx"):
        select_backend("tensorrt", model, CPU)


def test_onnx_on_a_gpu_or_without_a_directory_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="set device to 'cpu'"):
        select_backend("onnx", model, GPU, tmp_path / "model")
    with pytest.raises(ConfigError, match="needs a model directory"):
        select_backend("onnx", model, CPU)


@pytest.mark.slow
def test_an_export_that_fails_midway_leaves_nothing(packages, model, tmp_path, monkeypatch):
    one_domain = export._export_domain

    def fails_at_night(model, domain, path):
        if domain == "night":
            raise OSError(28, "No space left on device")
        return one_domain(model, domain, path)

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(export, "_export_domain", fails_at_night)
    with pytest.raises(OutputError, match="cannot be written: No space left"):
        export_onnx(model, tmp_path / "files")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_an_export_that_differs_from_torch_is_an_error(packages, model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="domain 'day' differs from torch"):
        export_onnx(model, tmp_path / "files", ["day"])
    assert not list(tmp_path.glob("files*"))


@pytest.mark.slow
def test_an_export_writes_over_nothing_and_knows_its_domains(exported, tmp_path, capsys):
    model, directory = exported
    assert main(["export", "--model", str(directory)]) == 1
    assert "exists" in capsys.readouterr().err
    with pytest.raises(DomainError, match="no domain fog, only day, night"):
        export_onnx(model, tmp_path / "files", ["fog", "day"])


@pytest.mark.slow
def test_an_exported_file_holds_no_paths_of_the_exporting_machine(exported):
    _, directory = exported
    data = (directory / "onnx" / "day.onnx").read_bytes()
    assert b".py" not in data and str(directory.parent).encode() not in data
