# SPDX-License-Identifier: Apache-2.0
"""Settings common to all training methods: data, run directory, optimizer, validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from disam_ros.errors import ConfigError
from disam_ros.settings import setting


@dataclass
class CropConfig:
    """Random crops. Zoom 1: the largest box of the networks' aspect ratio."""

    zoom: list[float] = setting([286 / 256, 286 / 256], "range of zoom of a random crop")
    photometric: float = setting(
        0.0,
        "strength of photometric augmentation on true pairs: gamma, contrast, noise, grey (not in "
        "the paper)",
        minimum=0.0,
        maximum=1.0,
    )
    cache_scale: float = setting(1.3, "size of cached images, relative to the crop", minimum=1.0)
    tile_cache_scale: float = setting(
        2.4, "size of cached images of fixed webcams, relative to the crop", minimum=1.0
    )
    cache_limit_mb: float = setting(8192.0, "maximum memory for decoded images [MB]", minimum=1.0)


@dataclass
class ValidationConfig:
    """Recall@1 while training."""

    data: list[str] = setting([], "like `data`; empty: no validation, the last weights are kept")
    held_out: float = setting(
        0.0,
        "without `data`: fraction of every route, its last stretch, that validates in place of "
        "training",
        minimum=0.0,
        maximum=0.5,
    )
    reference: str = setting(
        "", "domain of the map; empty: of those by day, else of all, the one with most images"
    )
    radius: float = setting(5.0, "maximum position error of a right answer [m]", minimum=0.0)
    angle: float = setting(10.0, "maximum angular error of a right answer [°]", minimum=0.0)
    shift: float = setting(
        0.0,
        "fixed webcams: lateral offset of query tiles, fraction of a tile (imitates a lane change)",
        minimum=0.0,
        maximum=0.4,
    )
    disc: float = setting(
        0.0, "radius of a perfect position prior around the query [m]; 0: no prior", minimum=0.0
    )
    drive: str = setting(
        "",
        "dataset of one drive with poses, beside `data`, which encoders of all domains shall go on "
        "recognizing: every `drive_step`-th image is on the map, those halfway between are queries",
    )
    drive_step: int = setting(16, "images of `drive` from one map image to the next", minimum=2)
    images: int = setting(300, "maximum images per domain", minimum=1)
    webcam_images: int = setting(
        4, "maximum images per domain and fixed webcam, of 16 tiles each", minimum=1
    )


@dataclass
class LossWeights:
    """λ of each loss of a method; 0 turns it off."""

    def on(self, names: Sequence[str] = ()) -> dict[str, float]:
        """Returns the weights of the losses that are on, among `names` or among all."""
        weights = {name: getattr(self, name) for name in names or [f.name for f in fields(self)]}
        return {name: weight for name, weight in weights.items() if weight > 0}


@dataclass
class StageConfig:
    """One stage of any method. Its optimizer starts from scratch, its networks from another stage.

    A method adds the choices of the name, and the losses.
    """

    name: str = setting("", "what the stage trains")
    steps: int = setting(1000, "optimizer steps", minimum=1)
    start_from: str = setting("", "earlier stage to start from; empty: as the method chooses")
    constant: float = setting(
        0.5,
        "fraction of the steps at full learning rate; then linear decay to 0",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass
class RunConfig(ABC):
    """A recipe of any method, completed by the method's own networks and stages."""

    stage_names: ClassVar[tuple[str, ...]]  # of the method
    name: str = setting("model", "name of the model")
    output: str = setting("", "run directory; empty: runs/NAME")
    data: list[str] = setting(
        [],
        "dataset directories, folders of them or with one folder per domain, or webcams:FOLDER; "
        "'A + B' as one entry: A and B share a map frame",
    )
    domains: list[str] = setting([], "domains to train, in this order; empty: all found")
    webcam_day: list[str] = setting(
        ["day"], "domains that a webcam's images by day belong to, such as all that are not night"
    )
    webcam_night: list[str] = setting(["night"], "domains of a webcam's images by night")
    rules: str = setting("", "YAML file with tags of own domains (disam_ros/domains/domains.yaml)")
    initial: str = setting(
        "",
        "weights to start from: a stage file of another run (.safetensors), or a backbone's file "
        "(docs/training.md), for the mobile encoder an EfficientNet-Lite0 state dictionary (.pth)",
    )
    seed: int = setting(0, "random seed of weights, batches and augmentation", minimum=0)
    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    threads: int = setting(
        0, "CPU threads; 0: torch's choice. Small networks are no faster with several", minimum=0
    )
    learning_rate: float = setting(2e-4, "of Adam", minimum=0.0)
    half: bool = setting(False, "store the finished model's weights as float16")
    channels_last: bool = setting(
        False, "memory format; faster for the mobile encoder and on GPUs with half precision"
    )
    smoke: bool = setting(
        False, "a short run that tests the recipe: a loss that never has a gradient is an error"
    )
    log_every: int = setting(20, "steps between reports of the losses", minimum=1)
    gradients_every: int = setting(
        50, "steps between measurements of each loss's share of the gradient; 0: none", minimum=0
    )
    validate_every: int = setting(500, "steps between validations", minimum=1)
    patience: int = setting(
        0, "validations without a better recall after which a stage ends early; 0: never", minimum=0
    )
    checkpoint_every: int = setting(500, "steps between checkpoints", minimum=1)
    crops: CropConfig = field(default_factory=CropConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stages: list[Any] = field(default_factory=list)

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Returns height and width of the networks' images [px]."""

    @property
    def light(self) -> dict[str, list[str]]:
        """Returns the domains of fixed webcams' images by day and by night."""
        return {"day": self.webcam_day, "night": self.webcam_night}

    def stage(self, name: str) -> Any | None:
        return next((s for s in self.stages if s.name == name), None)

    @abstractmethod
    def start_of(self, stage: Any) -> str:
        """Names the stage whose networks this one starts from; '': untrained."""

    @property
    def validates(self) -> bool:
        """Tells whether there are validation data, named or held out."""
        return bool(self.validation.data or self.validation.held_out)

    def check(self) -> None:
        """Raises ConfigError for settings that do not fit each other, naming one."""
        if self.validation.drive and not self.validates:
            raise ConfigError(
                f"'validation.drive' is '{self.validation.drive}', but 'validation.data' is empty: "
                f"it holds the domains to validate; give some, or leave the drive out"
            )
        low, high = pair_of(self.crops.zoom, "crops.zoom")
        if not 1.0 <= low <= high:
            raise ConfigError(f"'crops.zoom' expects 1 ≤ least ≤ most, got {[low, high]}")
        if not self.stages:
            raise ConfigError("'stages' expects a list with at least one stage; it is empty")
        earlier: list[str] = []
        for k, stage in enumerate(self.stages):
            where = f"stages.{k}"
            if stage.name not in self.stage_names:
                raise ConfigError(f"'{where}.name' must be one of {', '.join(self.stage_names)}")
            if stage.name in earlier:
                raise ConfigError(f"'{where}.name': there is a stage '{stage.name}' already")
            if self.start_of(stage) and self.start_of(stage) not in earlier:
                raise ConfigError(
                    f"'{where}.start_from' must be an earlier stage "
                    f"({', '.join(earlier) or 'none'}), got '{self.start_of(stage)}'"
                )
            earlier.append(stage.name)

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as it is saved with checkpoints and models."""
        return asdict(self)


def pair_of(values: list[Any], name: str) -> tuple[Any, ...]:
    """Makes a tuple of a list of two. Raises ConfigError naming the setting."""
    if len(values) != 2:
        raise ConfigError(f"'{name}' expects two numbers, got {values!r}")
    return values[0], values[1]
