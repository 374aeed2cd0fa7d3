# SPDX-License-Identifier: Apache-2.0
"""Settings that every method of training has: data, run directory, optimizer, validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from disam_ros.errors import ConfigError
from disam_ros.settings import from_dict, setting


@dataclass
class CropConfig:
    """Which part of an image is seen. Zoom 1: the largest box of the networks' shape."""

    zoom: list[float] = setting([286 / 256, 286 / 256], "least and most zoom of a random crop")
    photometric: float = setting(
        0.0,
        "strength of random gamma, contrast, noise and grey on true pairs (not in the paper)",
        minimum=0.0,
        maximum=1.0,
    )
    tile_zoom: list[float] = setting(
        [1.2, 2.4], "the same for fixed webcams, whose crops are places"
    )
    cache_scale: float = setting(1.3, "size of images in memory, in crops", minimum=1.0)
    tile_cache_scale: float = setting(2.4, "the same for fixed webcams", minimum=1.0)
    cache_limit_mb: float = setting(8192.0, "memory for decoded images at most", minimum=1.0)


@dataclass
class ValidationConfig:
    """Recall of the best candidate, measured while training."""

    data: list[str] = setting([], "like `data`; empty: no validation, the last weights are kept")
    reference: str = setting("", "domain of the map; empty: the first")
    radius: float = setting(5.0, "metres within which an answer is right", minimum=0.0)
    angle: float = setting(10.0, "degrees within which an answer is right", minimum=0.0)
    shift: float = setting(
        0.0,
        "fixed webcams: queries' tiles lie that share of a tile aside, as from another lane",
        minimum=0.0,
        maximum=0.4,
    )
    disc: float = setting(
        0.0, "metres around the true position that candidates lie in (a prior); 0: all", minimum=0.0
    )
    images: int = setting(300, "images per domain (fixed webcams: per camera) at most", minimum=1)


@dataclass
class RunConfig(ABC):
    """What a recipe says whatever its method; `stages` of the method's own kind complete it."""

    name: str = setting("model", "name of the model")
    output: str = setting("", "run directory; empty: runs/NAME")
    data: list[str] = setting(
        [],
        "dataset directories, folders of them or with one folder per domain, or webcams:FOLDER; "
        "'A + B' as one entry: A and B share a map frame",
    )
    domains: list[str] = setting([], "domains to train, in this order; empty: all found")
    rules: str = setting("", "YAML file with tags of own domains (disam_ros/domains/domains.yaml)")
    initial: str = setting(
        "",
        "weights to start from: a stage file of another run (.safetensors), or a backbone's file "
        "(docs/training.md), for the mobile encoder an EfficientNet-Lite0 state dictionary (.pth)",
    )
    seed: int = setting(0, "of weights and of every random choice", minimum=0)
    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    threads: int = setting(
        0, "CPU threads; 0: torch's choice. Small networks are no faster with several", minimum=0
    )
    learning_rate: float = setting(2e-4, "of Adam", minimum=0.0)
    half: bool = setting(False, "store the finished model's weights as float16")
    channels_last: bool = setting(
        False, "memory format; faster for the mobile encoder and on GPUs with half precision"
    )
    prefetch: int = setting(2, "batches prepared ahead in a thread; 0: none", minimum=0)
    log_every: int = setting(20, "steps between two looks at the losses", minimum=1)
    validate_every: int = setting(500, "steps between two validations", minimum=1)
    checkpoint_every: int = setting(500, "steps between two points to resume from", minimum=1)
    crops: CropConfig = field(default_factory=CropConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stages: list[Any] = field(default_factory=list)

    def stage(self, name: str) -> Any | None:
        return next((s for s in self.stages if s.name == name), None)

    @abstractmethod
    def start_of(self, stage: Any) -> str:
        """Name of the stage whose networks this one starts from; '': untrained."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


T = TypeVar("T", bound=RunConfig)


def read_recipe(recipe: type[T], stage: type, values: dict[str, Any]) -> T:
    """Build a recipe with its stages, unchecked. Raises ConfigError naming the key."""
    values = dict(values) if isinstance(values, dict) else values
    stages = values.pop("stages", []) if isinstance(values, dict) else []
    config = from_dict(recipe, values)
    if not isinstance(stages, list) or not stages:
        raise ConfigError(f"'stages' expects a list with at least one stage, got {stages!r}")
    config.stages = [from_dict(stage, s, f"stages.{k}") for k, s in enumerate(stages)]
    return config


def check_stages(config: RunConfig, names: Sequence[str]) -> None:
    """Raises ConfigError unless stages have these names, once each, and start from earlier ones."""
    earlier: list[str] = []
    for k, stage in enumerate(config.stages):
        where = f"stages.{k}"
        if stage.name not in names:
            raise ConfigError(f"'{where}.name' must be one of {', '.join(names)}")
        if stage.name in earlier:
            raise ConfigError(f"'{where}.name': there is a stage '{stage.name}' already")
        if config.start_of(stage) and config.start_of(stage) not in earlier:
            raise ConfigError(
                f"'{where}.start_from' must be an earlier stage ({', '.join(earlier) or 'none'}), "
                f"got '{config.start_of(stage)}'"
            )
        earlier.append(stage.name)


def check_run(config: RunConfig) -> None:
    """Raises ConfigError for ranges that are none."""
    for name in ("zoom", "tile_zoom"):
        low, high = pair_of(getattr(config.crops, name), f"crops.{name}")
        if not 1.0 <= low <= high:
            raise ConfigError(f"'crops.{name}' expects 1 ≤ least ≤ most, got {[low, high]}")


def pair_of(values: list, name: str) -> tuple:
    """A list of two as a tuple. Raises ConfigError naming the setting."""
    if len(values) != 2:
        raise ConfigError(f"'{name}' expects two numbers, got {values!r}")
    return values[0], values[1]
