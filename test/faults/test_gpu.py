# SPDX-License-Identifier: Apache-2.0
"""A GPU that fails while a map is built: the CPU goes on, with the same map. No GPU is needed."""

from __future__ import annotations

from copy import copy
from itertools import count

import numpy as np
import pytest
import torch
from support.data import save_tiny_model, write_dataset

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError
from disam_ros.features.local_features import open_features
from disam_ros.mapping import encoding, keypoints
from disam_ros.mapping.builder import build_map
from disam_ros.models.backend import select_backend

IMAGES = 8
ERRORS = {
    "memory": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"),
    "gone": RuntimeError("CUDA error: unspecified launch failure"),
}
CONFIG = MapBuilderConfig(
    domain="day", batch_size=2, keypoints=50, local_features="sift", keyframe_distance=0.0
)


def fake_gpu(monkeypatch, error: Exception, part: str, first: int) -> None:
    """Encoders and keypoints on 'cuda' which the CPU computes, until they fail.

    error: what the device raises. part: what fails, `encoder` or `keypoints`. first: the call of it
    that fails, as do all later ones.
    """
    calls = count()

    def failing(target, method):
        original, result = getattr(target, method), copy(target)

        def call(*values):
            if next(calls) >= first:
                raise error
            return original(*values)

        setattr(result, method, call)
        return result

    def backend(kind, model, device):
        encoder = select_backend(kind, model, "cpu")
        return failing(encoder, "encode") if (part, device) == ("encoder", "cuda") else encoder

    def features(name, device="cpu"):
        detector = open_features(name)
        return failing(detector, "extract") if (part, device) == ("keypoints", "cuda") else detector

    monkeypatch.setattr(encoding, "select_backend", backend)
    monkeypatch.setattr(keypoints, "open_features", features)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, a source of images and their map of a CPU."""
    folder = tmp_path_factory.mktemp("gpu")
    model = save_tiny_model(folder / "model")
    source = open_dataset(write_dataset(folder / "data", IMAGES).directory)
    return model, source, built(model, source, folder / "map", "cpu")


def built(model, source, output, device):
    return build_map(source, model, output, CONFIG, device, show_progress=False)


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("part", ["encoder", "keypoints"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_map_is_the_same_whenever_a_gpu_fails(
    world, tmp_path, monkeypatch, caplog, error, part, first
):
    model, source, expected = world
    fake_gpu(monkeypatch, ERRORS[error], part, first)
    place_map = built(model, source, tmp_path / "map", "cuda")
    assert caplog.text.count("the CPU goes on from here") == 1
    rows = np.arange(len(expected))
    assert np.array_equal(place_map.coarse, expected.coarse)
    assert np.array_equal(place_map.fine[rows], expected.fine[rows])
    assert np.array_equal(place_map.keypoint_rows[rows], expected.keypoint_rows[rows])


@pytest.mark.parametrize("part", ["encoder", "keypoints"])
def test_an_error_that_is_no_fault_of_a_gpu_ends_the_build(world, tmp_path, monkeypatch, part):
    model, source, _ = world
    fake_gpu(monkeypatch, ConfigError("no such setting"), part, 1)
    with pytest.raises(ConfigError, match="no such setting"):
        built(model, source, tmp_path / "map", "cuda")
