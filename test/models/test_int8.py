# SPDX-License-Identifier: Apache-2.0
"""Mobile encoders in 8-bit integers."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.data import NETWORK, texture, write_dataset
from support.localize import localize

from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, ModelError
from disam_ros.image import network_input
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.added_files import add_ranges
from disam_ros.models.arrays import sample_images
from disam_ros.models.backend import select_backend
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_runtime import int8_graph
from disam_ros.models.onnx_runtime.ranges import FILE
from disam_ros.models.similarity import least_similarity

SHIPPED = Path(__file__).parents[2] / "models" / "outdoor"
MOBILE = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")
DOMAINS = ("day", "night")


@pytest.fixture(autouse=True)
def packages():
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")


def measured(model):
    """Ranges of a model's activations for a few images."""
    from training.ranges import ranges_of

    images = torch.from_numpy(sample_images(MOBILE.image_size))
    stages = {"encoder": model.fine} if model.shared else vars(model)
    names = ("encoder",) if model.shared else ("coarse", "fine")
    return {f"{name}/{d}": ranges_of(stages[name][d], images) for name in names for d in DOMAINS}


def tiny(directory, shared=True, ranges=True):
    """An untrained mobile model, with ranges or without, saved and loaded again."""
    model = create_model(MOBILE, [Domain(name) for name in DOMAINS], seed=1)
    model.fine = model.coarse if shared else model.fine
    model.ranges = measured(model) if ranges else {}
    save_model(model, directory)
    return load_model(directory)


def test_the_shipped_models_features_in_integers_resemble_those_in_float32():
    model = load_model(SHIPPED)
    images = np.stack([network_input(texture(k, 480, 640), (192, 256)) for k in range(3)])
    exact, quantized = (select_backend(name, model, "cpu") for name in ("onnx", "onnx-int8"))
    for domain in model.domain_names():
        z = quantized.encode(domain, images)
        assert quantized.precision == "int8"
        assert least_similarity(z, exact.encode(domain, images)) > 0.97


@pytest.mark.parametrize("shared", [True, False])
def test_stages_of_their_own_have_ranges_of_their_own(tmp_path, shared):
    model = tiny(tmp_path / "model", shared)
    assert len(model.ranges) == (2 if shared else 4)
    backend = pickle.loads(pickle.dumps(select_backend("onnx-int8", model, "cpu")))
    images = sample_images(MOBILE.image_size)
    found = backend.encode("night", images)
    expected = select_backend("onnx", model, "cpu").encode("night", images)
    assert backend.precision == "int8" and least_similarity(found, expected) > 0.9
    assert np.array_equal(*found) == shared


def test_two_products_of_an_activation_and_a_weight_fit_into_16_bits():
    assert 2 * int8_graph.LEVELS * int8_graph.LARGEST_WEIGHT < 2**15


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 60))
def test_rounded_weights_keep_the_sum_of_their_filter(seed, filters, size):
    weights = np.random.default_rng(seed).uniform(-60, 60, (filters, size, 1, 1))
    found = int8_graph.rounded(weights)
    assert np.array_equal(found, np.rint(found)) and np.abs(found - weights).max() <= 1.0
    assert np.abs((found - weights).sum((1, 2, 3))).max() <= 0.5 + 1e-9


def test_a_layer_whose_weights_are_zero_stays_zero(tmp_path):
    model = tiny(tmp_path / "model")
    for weights in model.coarse.weights.values():
        weights["blocks.2.expand.weight"][:] = 0.0
        weights["blocks.2.expand.bias"][:] = 0.0
    model.ranges = measured(model)
    images = sample_images(MOBILE.image_size)
    found, expected = (
        select_backend(name, model, "cpu").encode("day", images) for name in ("onnx-int8", "onnx")
    )
    assert least_similarity(found, expected) > 0.9


def test_ranges_are_no_part_of_the_models_identity(tmp_path):
    without = tiny(tmp_path / "model", ranges=False)
    add_ranges(tmp_path / "model", measured(without), {"seed": 0})
    model = load_model(tmp_path / "model")
    assert model.identity == without.identity and model.training["ranges"] == {"seed": 0}
    assert sorted(model.ranges) == ["encoder/day", "encoder/night"]


def test_queries_in_integers_are_localized_on_a_map_in_float32(tmp_path):
    write_dataset(tmp_path / "data", 6)
    model = load_model(SHIPPED)
    config = MapBuilderConfig(domain="summer_day", keypoints=0, keyframe_distance=0.0)
    build_map(open_dataset(tmp_path / "data"), model, tmp_path / "map", config, "cpu", False)
    localizer = Localizer.open(tmp_path / "map", SHIPPED, LocalizerConfig(backend="onnx-int8"))
    for item in open_dataset(tmp_path / "data").images:
        answer = localize(localizer, item.load(), domain="summer_day")
        assert answer.record.source == item.record.source and answer.probability > 0.97
    assert localizer.backend.precision == "int8"


def test_a_model_without_ranges_says_how_to_measure_them(tmp_path):
    model = tiny(tmp_path / "model", ranges=False)
    with pytest.raises(
        ConfigError, match=r"lacks \(encoder/day, encoder/night\).*training\.ranges"
    ):
        select_backend("onnx-int8", model, "cpu")


def test_integers_are_for_mobile_encoders_on_a_cpu(tmp_path):
    with pytest.raises(ConfigError, match="'onnx-int8' runs on the CPU, not on cuda"):
        select_backend("onnx-int8", tiny(tmp_path / "model"), "cuda")
    with pytest.raises(ConfigError, match="'onnx-int8' runs mobile encoders"):
        select_backend("onnx-int8", create_model(NETWORK, [Domain("day")], "paper"), "cpu")


def test_ranges_that_do_not_fit_end_in_float32_with_one_line(tmp_path, caplog):
    model = tiny(tmp_path / "model")
    model.ranges = {name: 1e-3 * ends for name, ends in model.ranges.items()}
    backend, images = select_backend("onnx-int8", model, "cpu"), sample_images(MOBILE.image_size)
    with caplog.at_level(logging.WARNING):
        found = [backend.encode(domain, images)[0] for domain in DOMAINS]
    exact = select_backend("onnx", model, "cpu")
    expected = [exact.encode(domain, images)[0] for domain in DOMAINS]
    assert np.array_equal(found, expected) and backend.precision == "float32"
    assert len(caplog.records) == 1 and "go on in float32" in caplog.text


@pytest.mark.parametrize(
    ("ends", "fault"),
    [
        (np.zeros((3, 2), np.float32), "is malformed: 'encoder/day' expects float32"),
        (np.full((36, 2), np.nan, np.float32), "is malformed"),
        (np.tile(np.float32([1, -1]), (36, 1)), "is malformed"),
    ],
)
def test_malformed_ranges_are_refused(tmp_path, ends, fault):
    tiny(tmp_path / "model", ranges=False)
    add_ranges(tmp_path / "model", {"encoder/day": ends}, {})
    with pytest.raises(ModelError, match=fault):
        load_model(tmp_path / "model")


def test_damaged_ranges_are_refused(tmp_path):
    tiny(tmp_path / "model")
    (tmp_path / "model" / FILE).write_bytes(b"")
    with pytest.raises(ModelError, match=f"{FILE} is damaged"):
        load_model(tmp_path / "model")
