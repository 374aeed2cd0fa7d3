# SPDX-License-Identifier: Apache-2.0
"""The map that most tests of localization use."""

from __future__ import annotations

from pathlib import Path

import pytest

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import Model


@pytest.fixture
def place_map(
    dataset: Dataset, model: Model, tmp_path: Path, builder_config: MapBuilderConfig
) -> PlaceMap:
    source = open_dataset(dataset.directory)
    return build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
