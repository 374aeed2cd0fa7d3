# SPDX-License-Identifier: Apache-2.0
"""Recipes and networks of the project's own method, by their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from disam_ros.errors import ConfigError
from training.disam.config import TrainConfig
from training.global_descriptors.config import GlobalTrainConfig
from training.recipes import load_config, parse_config

Network = TypeVar("Network", bound=nn.Module)


def load_recipe(path: Path) -> TrainConfig:
    """Reads a recipe. Raises ConfigError for one of another method."""
    return _own(load_config(path), str(path))


def recipe_of(values: dict[str, Any]) -> TrainConfig:
    """Checks the values of a recipe. Raises ConfigError for one of another method."""
    return _own(parse_config(values), "recipe")


def _own(config: TrainConfig | GlobalTrainConfig, name: str) -> TrainConfig:
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{name}: expected method 'disam', got 'global'")
    return config


def in_layout(network: Network, layout: torch.memory_format = torch.channels_last) -> Network:
    """Lays the weights of a network out in memory, in place. Returns the network."""
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it
    return network
