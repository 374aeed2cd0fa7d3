# SPDX-License-Identifier: Apache-2.0
"""Mobile encoders in 8-bit integers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from support.data import texture, write_dataset
from support.localize import localize

from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError
from disam_ros.image import network_input
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.backend import select_backend
from disam_ros.models.model import load_model
from disam_ros.models.similarity import least_similarity

SHIPPED = Path(__file__).parents[2] / "models" / "outdoor"


@pytest.fixture(autouse=True)
def packages():
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")


def test_the_shipped_models_features_in_integers_resemble_those_in_float32():
    model = load_model(SHIPPED)
    images = np.stack([network_input(texture(k, 480, 640), (192, 256)) for k in range(3)])
    exact, integers = (select_backend(name, model, "cpu") for name in ("onnx", "onnx-int8"))
    integers = pickle.loads(pickle.dumps(integers))
    assert (exact.precision, integers.precision) == ("float32", "int8")
    for domain in model.domain_names():
        z = integers.encode(domain, images)
        assert 0.97 < least_similarity(z, exact.encode(domain, images)) < 0.99999


def test_weights_have_seven_bits():
    """A CPU without VNNI adds two products in 16 bits, which two of 8 × 8 bits exceed."""
    import onnx

    proto = onnx.load(SHIPPED / "night.int8.onnx")
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer]
    kernels = [array for array in arrays if array.dtype == np.int8 and array.ndim == 4]
    assert len(kernels) > 20
    assert all(np.abs(kernel.astype(int)).max() <= 64 for kernel in kernels)


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


def test_a_model_without_them_names_the_command(model):
    with pytest.raises(ConfigError, match=r"in int8 of day, night; write .*training\.int8"):
        select_backend("onnx-int8", model, "cpu")
    with pytest.raises(ConfigError, match="'onnx-int8' runs on the CPU, not on cuda"):
        select_backend("onnx-int8", model, "cuda")
