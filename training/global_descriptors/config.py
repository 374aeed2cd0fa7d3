# SPDX-License-Identifier: Apache-2.0
"""Settings of recipes with `method: global`; in brackets the papers' values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from disam_ros.errors import ConfigError, ModelError
from disam_ros.models.global_descriptors.config import BACKBONES, HEADS, GlobalConfig
from disam_ros.settings import setting
from training.global_descriptors.losses import ANCHORS, FORMS, INFLUENCES
from training.settings import LossWeights, RunConfig, StageConfig, pair_of

STAGE_NAMES = ("descriptors", "decoder")
TUPLE_LOSSES = (
    "soft_contrastive",
    "multi_similarity",
    "triplet",
    "quadruplet",
    "lazy_triplet",
    "lazy_quadruplet",
    "log_ratio",
    "huber",
)
PAIR_LOSSES = ("local_triplet",)
DEPTH_LOSSES = ("depth", "hallucination")  # need depth maps


@dataclass
class GlobalLossWeights(LossWeights):
    """Weight of each loss; 0 turns it off."""

    soft_contrastive: float = setting(0.0, "on tuples, Thoma et al. 2020 (1)", minimum=0.0)
    multi_similarity: float = setting(0.0, "on tuples, its strongest baseline", minimum=0.0)
    triplet: float = setting(0.0, "on tuples; image, depth and both, Piasco 2019 (1)", minimum=0.0)
    quadruplet: float = setting(0.0, "on tuples, Chen et al. 2017", minimum=0.0)
    lazy_triplet: float = setting(0.0, "on tuples, Uy and Lee 2018", minimum=0.0)
    lazy_quadruplet: float = setting(0.0, "on tuples, Uy and Lee 2018", minimum=0.0)
    log_ratio: float = setting(0.0, "on tuples, Kim et al. 2019", minimum=0.0)
    huber: float = setting(
        0.0, "on the near images of tuples, Thoma et al. 2020 (0.5), beside triplet", minimum=0.0
    )
    local_triplet: float = setting(0.0, "on neighbourhoods, Xia et al. 2021 (1)", minimum=0.0)
    depth: float = setting(0.0, "L1 of the decoded depth, Piasco et al. 2019 (1)", minimum=0.0)
    hallucination: float = setting(
        0.0, "imitation of the depth's features, Hoffman et al. 2016", minimum=0.0
    )


@dataclass
class GlobalStageConfig(StageConfig):
    """One stage. It starts from the best networks of the one before, its optimizer from scratch."""

    name: str = setting(
        "descriptors", "what it trains; decoder: the depth decoder alone", choices=STAGE_NAMES
    )
    steps: int = setting(300, "optimizer steps", minimum=1)
    start_from: str = setting("", "earlier stage to start from; empty: the one before")
    losses: GlobalLossWeights = field(default_factory=GlobalLossWeights)
    domains: list[str] = setting([], "domains this stage trains on; empty: all")
    depth_batch: int = setting(
        0, "images per step for the depth loss alone (no poses needed)", minimum=0
    )


@dataclass
class GlobalNetworkSettings:
    """Kind and size of a branch's network (disam_ros.models.global_descriptors.GlobalConfig)."""

    backbone: str = setting("mobile", "features (vgg16; alexnet, resnet18)", choices=BACKBONES)
    head: str = setting("netvlad", "features → a vector (netvlad; safa; mac)", choices=HEADS)
    clusters: int = setting(16, "of netvlad (64)", minimum=1)
    heads: int = setting(8, "position maps of safa (8)", minimum=1)
    size: int = setting(
        0, "numbers of a descriptor after whitening (256); 0: no whitening", minimum=0
    )
    depth: bool = setting(False, "a second descriptor, of the depth decoded from the image")
    hallucinated: bool = setting(
        False, "with depth: the second descriptor imitates the depth's, nothing is decoded"
    )
    width: int = setting(24, "channels of the disam backbone's first layer", minimum=1)
    encoder_blocks: int = setting(4, "residual blocks of the disam backbone", minimum=0)
    image_size: list[int] = setting(
        [144, 192], "height and width in pixels, multiples of 16 (disam: 4)"
    )

    def build(self) -> GlobalConfig:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        size = pair_of(self.image_size, "network.image_size")
        try:
            return GlobalConfig(**values | {"image_size": size})
        except ModelError as error:
            raise ConfigError(f"'network': {error}") from error


@dataclass
class TupleConfig:
    """Anchor, near and far images (tuples.py)."""

    tuples: int = setting(1, "tuples per step (1)", minimum=1)
    near: int = setting(6, "near images of a tuple (12)", minimum=1)
    far: int = setting(6, "far images of a tuple (12)", minimum=2)
    near_radius: float = setting(15.0, "maximum distance of near images [m] (15)", minimum=0.1)
    yaw: float = setting(
        30.0, "maximum yaw difference of near images [°] (30)", minimum=0.0, maximum=180.0
    )
    far_radius: float = setting(
        15.0,
        "minimum distance of far images from the anchor and from each other [m] (15)",
        minimum=0.0,
    )
    anchor_spacing: float = setting(
        1.0, "spacing of an epoch's anchors along the route [m] (1); 0: every image", minimum=0.0
    )
    hard: float = setting(
        0.5, "fraction of the far images that are mined (0.5)", minimum=0.0, maximum=1.0
    )
    cache: int = setting(
        200, "size of the descriptor cache for negative mining (1000); 0: no mining", minimum=0
    )
    refresh: int = setting(
        100, "anchors after which the cache is drawn and described again (250)", minimum=1
    )


@dataclass
class NeighbourhoodConfig:
    """Batches of one neighbourhood (neighbourhoods.py)."""

    batch: int = setting(16, "pairs per step (64)", minimum=2)
    radius: float = setting(
        50.0,
        "radius around the centre that fills the batch [m] (50); 0: images of all routes",
        minimum=0.0,
    )
    positive_radius: float = setting(5.0, "maximum distance of a pair [m] (5)", minimum=0.0)
    yaw: float = setting(30.0, "maximum yaw difference of a pair [°]", minimum=0.0, maximum=180.0)
    references: list[str] = setting(
        [], "domains of the map's side; empty: those from above where there are any, else all"
    )


@dataclass
class SoftContrastiveConfig:
    """Constants of the soft contrastive loss."""

    form: str = setting(
        "released", "of the authors' code, the paper's Eq. 5, or its plain sum", choices=FORMS
    )
    anchors: str = setting(
        "all",
        "images of a tuple that the released form anchors on; first: as the other losses do",
        choices=ANCHORS,
    )
    mined: bool = setting(
        False, "the released form leaves out pairs that are clearly easy, as its authors train"
    )
    influence: str = setting("sigmoid", "g of Definition 4.1", choices=INFLUENCES)
    gamma: float = setting(0.8, "steepness of the sigmoid [1/m] (0.8)", minimum=0.001)
    tau: float = setting(
        15.0, "distance at which the sigmoid is ½, the line 0, 1 − tanh 0.24 [m] (15)", minimum=0.1
    )
    eta: float = setting(2.0, "η, of the near images (2)", minimum=0.001)
    nu: float = setting(
        50.0,
        "ν, of the far images (50); Eq. 5 pushes them apart to a distance of about μ/ν: take less "
        "for the paper's form, such as 3",
        minimum=0.001,
    )


@dataclass
class BaselineConfig:
    """Constants of the other losses on tuples."""

    margin: float = setting(0.1, "of triplet (0.1)", minimum=0.0)
    positives: int = setting(
        1, "farthest near images that make triplets (1 of 4); 0: all", minimum=0
    )
    negatives: int = setting(
        10,
        "nearest far images that make triplets (10 of 20); 0 or more than there are: all",
        minimum=0,
    )
    farthest: float = setting(
        50.0, "distance beyond which images are equally far in log_ratio [m]", minimum=2.0
    )


@dataclass
class LocalTripletConfig:
    """Constants of the local triplet loss."""

    scale: float = setting(10.0, "α (10)", minimum=0.001)
    sigma: float = setting(
        10.0, "distance over which the weight of a negative grows [m] (10)", minimum=0.001
    )
    nearest: float = setting(5.0, "minimum distance of a negative [m] (5)", minimum=0.0)
    farthest: float = setting(
        50.0, "maximum distance of a negative [m] (50); 0: any, also of another route", minimum=0.0
    )


@dataclass
class GlobalTrainConfig(RunConfig):
    """A whole recipe for a model of global descriptors."""

    stage_names = STAGE_NAMES
    learning_rate: float = setting(1e-4, "of Adam (1e-6; 5e-5; 1e-4)", minimum=0.0)
    depth_learning_rate: float = setting(2e-4, "of the depth decoder (2e-4)", minimum=0.0)
    weight_decay: float = setting(0.0, "of Adam (0; 0; 1e-3)", minimum=0.0)
    sample: int = setting(
        1000, "maximum images to learn cluster centres and whitening from", minimum=1
    )
    branches: dict[str, str] = field(default_factory=dict)  # domain → network's name; others: view
    network: GlobalNetworkSettings = field(default_factory=GlobalNetworkSettings)
    tuples: TupleConfig = field(default_factory=TupleConfig)
    neighbourhoods: NeighbourhoodConfig = field(default_factory=NeighbourhoodConfig)
    soft: SoftContrastiveConfig = field(default_factory=SoftContrastiveConfig)
    baselines: BaselineConfig = field(default_factory=BaselineConfig)
    local: LocalTripletConfig = field(default_factory=LocalTripletConfig)
    stages: list[GlobalStageConfig] = field(default_factory=list)

    @property
    def image_size(self) -> tuple[int, int]:
        return self.network.build().image_size

    def start_of(self, stage: GlobalStageConfig) -> str:
        """The stage before this one, unless it names another; '': untrained."""
        place = next(k for k, other in enumerate(self.stages) if other is stage)
        return stage.start_from or (self.stages[place - 1].name if place else "")

    def to_json(self) -> dict[str, Any]:
        return {"method": "global", **super().to_json()}

    def check(self) -> None:
        self.network.build()
        super().check()
        for k, stage in enumerate(self.stages):
            _check_stage(self, stage, f"stages.{k}")


def _check_stage(config: GlobalTrainConfig, stage: GlobalStageConfig, where: str) -> None:
    """Losses of a stage fit its name and the networks. Raises ConfigError naming the stage."""
    others = stage.losses.on((*TUPLE_LOSSES, *PAIR_LOSSES))
    if stage.losses.depth and (not config.network.depth or config.network.hallucinated):
        raise ConfigError(
            f"'{where}.losses.depth' needs 'network.depth: true' and no 'network.hallucinated'"
        )
    if bool(stage.losses.hallucination) != config.network.hallucinated:
        raise ConfigError(
            f"'{where}.losses.hallucination' and 'network.hallucinated: true' need each other"
        )
    if stage.name == "decoder":
        if others or not stage.losses.depth or not stage.depth_batch:
            raise ConfigError(
                f"'{where}' trains the decoder alone: it needs losses.depth, a depth_batch and no "
                f"other loss, got {', '.join(others) or 'none'}"
            )
        return
    if not others:
        names = ", ".join((*TUPLE_LOSSES, *PAIR_LOSSES))
        raise ConfigError(
            f"'{where}.losses' has none for descriptors; give a weight to some of {names}"
        )
    if stage.depth_batch and not stage.losses.depth:
        raise ConfigError(f"'{where}.depth_batch' is without use: losses.depth is off")
