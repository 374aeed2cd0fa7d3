# SPDX-License-Identifier: Apache-2.0
"""A small map that several tests of evaluations ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data import DESCRIPTOR, save_tiny_model, write_dataset

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.mapping.builder import build_map


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of 12 images, a model and a map of the data, which no test changes."""
    root = tmp_path_factory.mktemp("world")
    write_dataset(root / "data", 12)
    model = save_tiny_model(root / "model")
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=DESCRIPTOR)
    build_map(open_dataset(root / "data"), model, root / "map", config, show_progress=False)
    return root
