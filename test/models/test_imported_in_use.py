# SPDX-License-Identifier: Apache-2.0
"""Maps and answers of imported ONNX networks, and the script that exports published ones."""

import json
import logging
import re
import runpy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.architectures import ResNetGem, VisionTransformer
from support.data import camera_pose, texture, write_dataset
from support.imports import MAP, SIZE, command, images, imported_model, run_import
from support.localize import describe, localize, process
from support.onnx_files import FEATURE_MAP, write_onnx

from disam_ros.cli import main
from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.domain import Domain
from disam_ros.errors import DomainError, MapError, ModelError
from disam_ros.localization.calibration import DEFAULT, save_calibration
from disam_ros.localization.fitting.calibrate import calibrate
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.models import imported
from disam_ros.models.backend import select_backend
from disam_ros.models.export import export_onnx, relative_error
from disam_ros.models.networks import Encoder
from disam_ros.models.onnx_runtime import ON_CPU, ON_CUDA

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[onnx]'")

CPU = "cpu"
SCRIPT = Path(__file__).parents[2] / "scripts" / "export_descriptor.py"


# --- Maps and answers ---


@pytest.fixture(params=["descriptor", "feature map"])
def world(request, tmp_path, builder_config):
    """A folder with an imported model and a map of twelve textures."""
    if request.param == "descriptor":
        model = imported_model(tmp_path)
    else:
        model = imported_model(tmp_path, FEATURE_MAP, outputs=MAP)
    source = open_dataset(write_dataset(tmp_path / "data", 12).directory)
    build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    return tmp_path


def opened(folder, **settings):
    config = LocalizerConfig(device="cpu", **settings)
    return Localizer.open(folder / "map", folder / "model", config)


def test_every_place_of_a_map_is_found(world):
    pipeline = Pipeline(opened(world))
    for index in range(12):
        answer = process(pipeline, Frame(texture(index), "front", (index + 1) * 10**9))
        assert answer.record.id == index and answer.domain.name == "any"
        assert np.allclose(
            answer.record.map_from_camera.translation, camera_pose(index).translation
        )
        assert answer.candidates[0].fine_score > 0.99


def test_feature_maps_take_shifts_and_give_activation_maps(world):
    localizer = opened(world)
    pixels = np.roll(texture(5), 8, axis=1)  # an eighth of the view
    answer = localize(localizer, pixels, 10**9)
    is_map = localizer.model.network.feature_size != (1, 1)
    assert localizer.has_activation_maps == is_map
    if is_map:
        assert answer.record.id == 5
        assert answer.candidates[0].shift == pytest.approx((1 / 8, 0.0), abs=0.02)
        heat = localizer.activation_map(describe(localizer, pixels), answer.record)
        assert heat.shape == (6, 8) and heat.max() == pytest.approx(1.0)


@pytest.mark.parametrize("backend", ["auto", "torch", "onnx"])
def test_onnx_runtime_is_the_backend_whatever_is_set(tmp_path, backend):
    model = imported_model(tmp_path)
    chosen = select_backend(backend, model, CPU)
    assert chosen.name == "onnx"
    features = chosen.encode("any", images().numpy())[1]
    assert np.array_equal(features, model.fine["any"](images()).numpy())


def test_the_only_domain_serves_the_names_of_all_others(world):
    localizer = opened(world, domain=DomainConfig(override="winter_snow"))
    assert {record.domain for record in localizer.map.records} == {"any"}  # of images named day
    answer = localize(localizer, texture(3), 10**9, domain="night")
    assert answer.domain.name == "any" and answer.record.id == 3


def test_of_several_domains_a_wrong_name_is_still_an_error(tmp_path, builder_config):
    model = imported_model(tmp_path, domains=[Domain("summer_day"), Domain("night")])
    source = open_dataset(write_dataset(tmp_path / "data", 3).directory)
    with pytest.raises(MapError, match="no encoder for domain 'day', only for summer_day, night"):
        build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    builder_config.domain = "night"
    build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    with pytest.raises(DomainError, match="domain 'day'"):
        opened(tmp_path, domain=DomainConfig(override="day"))


def test_a_map_refuses_the_same_network_with_another_preprocessing(world):
    run_import(world / "network.onnx", world / "other", mean=(0.1, 0.1, 0.1))
    with pytest.raises(MapError, match="was built with model 'small'"):
        Localizer.open(world / "map", world / "other", LocalizerConfig(device="cpu"))


def test_every_command_takes_an_imported_model(tmp_path, capsys):
    write_dataset(tmp_path / "data", 12)
    file = write_onnx(tmp_path / "network.onnx", FEATURE_MAP, outputs=MAP)
    model, built = str(tmp_path / "model"), str(tmp_path / "map")
    data, both = str(tmp_path / "data"), ["--map", built, "--model", model]
    evaluation, answers = tmp_path / "evaluation", str(tmp_path / "answers.csv")
    assert main(command(file, model, "--licence", "MIT")) == 0
    assert "small (imported feature map, 3×12×16;" in capsys.readouterr().out
    assert main(["build-map", "--dataset", data, "--model", model, "--output", built]) == 0
    assert main(["localize", "--dataset", data, *both, "--output", answers]) == 0
    assert "12 of 12 images localized" in capsys.readouterr().out
    named = ["--dataset-domains", "--output", str(evaluation)]
    assert main(["evaluate", data, *both, *named]) == 0
    assert json.loads((evaluation / "results.json").read_text())["setup"]["backend"] == "onnx"


def test_a_calibration_of_an_imported_model_is_used_by_it(tmp_path, builder_config, monkeypatch):
    model = imported_model(tmp_path)
    monkeypatch.setattr("support.data.camera_pose", lambda index: camera_pose(3 * index))
    records = write_dataset(tmp_path / "data", 40).records
    drive = open_dataset(tmp_path / "data")
    build_map(drive, model, tmp_path / "map", builder_config, show_progress=False)
    poses = [record.map_from_camera @ camera_pose(0).inverse() for record in records]
    odometry = (np.array([record.stamp_ns for record in records]), poses)
    drives = [replace(drive, odometry=odometry)]
    result = calibrate(opened(tmp_path), drives, show_progress=False)
    save_calibration(result, tmp_path / "model")
    assert opened(tmp_path).calibration == result != DEFAULT


def test_an_export_of_an_imported_model_makes_no_sense(tmp_path, capsys):
    imported_model(tmp_path)
    with pytest.raises(ModelError, match=r"an ONNX file already, network\.onnx"):
        export_onnx(tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model")]) == 1
    assert "was imported" in capsys.readouterr().err


def test_an_input_size_is_height_x_width(tmp_path, capsys):
    arguments = command(tmp_path / "network.onnx", tmp_path / "model", "--licence", "MIT")
    arguments[arguments.index("48x64")] = "48"
    with pytest.raises(SystemExit):
        main(arguments)
    assert "expected HxW, such as 322x322, got '48'" in capsys.readouterr().err


# --- Devices ---


class FakeSession:
    """Records the providers it is asked for; none but the CPU works."""

    def __init__(self, path, options, providers):
        FakeSession.asked = providers

    def get_providers(self):
        return ["CPUExecutionProvider"]


@pytest.mark.parametrize("available", [True, False])
def test_on_a_gpu_that_onnxruntime_cannot_use_the_network_runs_on_the_cpu_and_says_so(
    tmp_path, monkeypatch, caplog, available
):
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names[not available :])
    with caplog.at_level(logging.WARNING):
        imported.open_session(tmp_path / "network.onnx", "cuda:1")
    gpu = [(ON_CUDA, {"device_id": 1})] if available else []
    assert FakeSession.asked == [*gpu, ON_CPU]
    assert "network.onnx runs on the CPU, not on cuda:1" in caplog.text


# --- Networks exported by torch ---

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def by_tracing(network, file, height, width):
    """The exporter that most public scripts use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, height, width),),
            file,
            dynamo=False,
            input_names=["image"],
            output_names=["z"],
            dynamic_axes={"image": {0: "B"}, "z": {0: "B"}},
        )


def by_the_script(network, file, height, width):
    """The function of scripts/export_descriptor.py, which writes files with side files."""
    pytest.importorskip("onnxscript", reason="not installed: pip install '.[onnx]'")
    runpy.run_path(str(SCRIPT))["export"](network, file, height, width)


def test_the_page_has_a_row_for_every_network_that_the_script_exports():
    page = SCRIPT.parents[1] / "docs" / "own_descriptor.md"
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\S+ \| (\d+x\d+) \|", page.read_text(), re.MULTILINE))
    networks = runpy.run_path(str(SCRIPT))["NETWORKS"]
    assert rows == {name: f"{height}x{width}" for name, (_, height, width) in networks.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "export", "size", "shape"),
    [
        (VisionTransformer, by_tracing, (224, 224), (128, 16, 16)),
        (ResNetGem, by_tracing, (224, 224), (64, 1, 1)),
        (lambda: Encoder(4, 1), by_the_script, SIZE, (16, 12, 16)),
    ],
    ids=["transformer", "residual network", "by the script"],
)
def test_an_imported_network_gives_torchs_features(tmp_path, network, export, size, shape):
    torch.manual_seed(0)
    model = network().eval()
    export(model, str(tmp_path / "public.onnx"), *size)
    result = run_import(tmp_path / "public.onnx", tmp_path / "model", image_size=size, **IMAGENET)
    assert (result.network.channels, *result.network.feature_size) == shape
    assert result.network.any_batch
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET.values())
    with torch.inference_mode():
        expected = model(((images(2, size) + 1) / 2 - mean) / std).view(2, *shape)
    assert relative_error(result.coarse["any"](images(2, size)), expected) < 1e-4
