# SPDX-License-Identifier: Apache-2.0
"""Recipes (YAML) of every training method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from disam_ros.errors import ConfigError
from training.disam.config import StageConfig, TrainConfig, check
from training.global_descriptors.config import GlobalTrainConfig, parse_global_config
from training.settings import read_recipe

METHODS = {"disam": TrainConfig, "global": GlobalTrainConfig}


def parse_config(values: dict[str, Any]) -> TrainConfig | GlobalTrainConfig:
    """Build and check a recipe of its `method` (disam). Raises ConfigError naming the key."""
    values = dict(values) if isinstance(values, dict) else values
    method = values.pop("method", "disam") if isinstance(values, dict) else "disam"
    if method not in METHODS:
        raise ConfigError(f"'method' must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "global":
        return parse_global_config(values)
    config = read_recipe(TrainConfig, StageConfig, values)
    check(config)
    return config


def load_config(path: Path | str) -> TrainConfig | GlobalTrainConfig:
    """Read a recipe. Raises ConfigError naming the file and the key."""
    try:
        return parse_config(yaml.safe_load(Path(path).read_text()) or {})
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
