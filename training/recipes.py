# SPDX-License-Identifier: Apache-2.0
"""Recipes (YAML) of every training method."""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as brief
from typing import Any

from disam_ros.errors import ConfigError, DisamError
from disam_ros.files.checking import build
from disam_ros.files.yaml_files import read_yaml
from training.disam.config import TrainConfig
from training.global_descriptors.config import GlobalTrainConfig

METHODS: dict[str, type[TrainConfig] | type[GlobalTrainConfig]] = {
    "disam": TrainConfig,
    "global": GlobalTrainConfig,
}


def parse_config(values: Any) -> TrainConfig | GlobalTrainConfig:
    """Build and check a recipe of its `method` (disam). Raises ConfigError naming the key."""
    method = "disam"
    if isinstance(values, dict):
        values = dict(values)
        method = values.pop("method", method)
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(f"'method' must be one of {', '.join(METHODS)}; got {brief(method)}")
    config: TrainConfig | GlobalTrainConfig = build(METHODS[method], values)
    config.check()
    return config


def load_config(path: Path | str) -> TrainConfig | GlobalTrainConfig:
    """Read a recipe; an empty one holds the defaults. Raises ConfigError, naming file and key."""
    values = read_yaml(path, ConfigError)
    try:
        return parse_config({} if values is None else values)
    except DisamError as error:  # of settings that networks or domains refuse, too
        raise ConfigError(f"{path}: {error}") from error
