# SPDX-License-Identifier: Apache-2.0
"""Settings of DISAM's own method."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from disam_ros.config import DescriptorConfig
from disam_ros.errors import ConfigError
from disam_ros.models.network_config import ENCODERS, NetworkConfig
from disam_ros.settings import setting
from training.settings import LossWeights, RunConfig, StageConfig, pair_of

SHARING = ("none", "trunk", "all")
STAGE_NAMES = ("translation", "coarse", "fine")
TRANSLATING = ("gan", "cycle", "fcl", "fcl_cosine", "triplet_fcl", "sam", "triplet_sam")
ALIGNED = ("contrastive", "distillation")


@dataclass
class DisamLossWeights(LossWeights):
    """λ of each loss; 0 turns it off. In brackets the paper's; in the relative form of `triplets`
    every loss is of the order of 1."""

    gan: float = setting(0.0, "least-squares GAN (1)", minimum=0.0)
    cycle: float = setting(0.0, "L1 of the image translated there and back (10)", minimum=0.0)
    fcl: float = setting(0.0, "feature consistency, Eq. 12 (0.1)", minimum=0.0)
    fcl_cosine: float = setting(0.0, "its cosine term, fine model only (0.1)", minimum=0.0)
    triplet_fcl: float = setting(0.0, "triplet of features, Eq. 22 (1)", minimum=0.0)
    sam: float = setting(0.0, "equal activation maps, Eq. 19, fine model (1000)", minimum=0.0)
    triplet_sam: float = setting(0.0, "triplet of maps, Eq. 23, fine model (1)", minimum=0.0)
    contrastive: float = setting(0.0, "InfoNCE on true pairs (not in the paper)", minimum=0.0)
    distillation: float = setting(
        0.0,
        "equal features of a frozen domain's images by its own and the trained encoder, in steps "
        "whose pairs are of both (not in the paper)",
        minimum=0.0,
    )


@dataclass
class DisamStageConfig(StageConfig):
    """One stage. Its networks start from another stage's, its optimizer from scratch."""

    name: str = setting("", "what the stage trains", choices=STAGE_NAMES)
    start_from: str = setting(
        "",
        "earlier stage to start from; empty: translation if the recipe has it, else untrained",
    )
    losses: DisamLossWeights = field(default_factory=DisamLossWeights)
    batch_size: int = setting(1, "images of each of the two domains per step", minimum=1)
    aligned_batch: int = setting(24, "true pairs per step", minimum=2)
    ramp: float = setting(
        1.0,
        "fraction of the steps over which λ of fcl, fcl_cosine, triplet_fcl and sam ramp up",
        minimum=0.0,
        maximum=1.0,
    )
    ramp_from: float = setting(
        0.0, "fraction of λ that the ramp starts from", minimum=0.0, maximum=1.0
    )
    hard_from: float = setting(
        1.0,
        "fraction of the steps after which negatives are the hardest of a group; 1: never",
        minimum=0.0,
        maximum=1.0,
    )
    adaptive: bool = setting(True, "adaptive margin; false: constant (the paper's ablation)")


@dataclass
class TripletConfig:
    """Distances, margin and negatives of Eq. 20–23."""

    form: str = setting(
        "released",
        "distances: mean squared error (released code, fits the default λ, m, α), norm (paper), or "
        "relative to the running mean of negative pairs', for features of any scale",
        choices=("released", "paper", "relative"),
    )
    margin: float = setting(1.0, "m_f and m_s of the relative form", minimum=0.0)
    negatives: str = setting(
        "translated",
        "what a negative pair is: a translation and another image, or two real images (released "
        "option)",
        choices=("translated", "real"),
    )
    group: int = setting(10, "size of the group that the hardest negative is taken from", minimum=1)
    cached: bool = setting(
        True, "the group's others are features of recent steps; false: encoded again in every step"
    )


@dataclass
class AlignedConfig:
    """True pairs: images of one place in two domains (losses contrastive, distillation)."""

    radius: float = setting(
        2.0, "maximum distance of a pair [m]; the nearest image is taken", minimum=0.0
    )
    angle: float = setting(15.0, "maximum angle between optical axes of a pair [°]", minimum=0.0)
    negative_radius: float = setting(15.0, "minimum distance of a negative [m]", minimum=0.0)
    neighbourhood: float = setting(
        0.0,
        "half of a batch lies within this distance of one of its places, so that negatives are "
        "near ones too [m]; 0: all of it is drawn from everywhere",
        minimum=0.0,
    )
    jitter: float = setting(
        0.06, "random shift and zoom of the partner, fraction of the crop", minimum=0.0
    )
    same_domain: float = setting(
        0.25, "fraction of steps whose pairs are of one domain", minimum=0.0, maximum=1.0
    )
    temperature: float = setting(0.07, "of contrastive", minimum=0.001)


@dataclass
class NetworkSettings:
    """Kind and size of the networks (disam_ros.models.networks.NetworkConfig)."""

    encoder: str = setting(
        "disam", "the paper's, or EfficientNet-Lite0's trunk (width 28)", choices=ENCODERS
    )
    width: int = setting(24, "channels of the first layer; 64 in the paper", minimum=1)
    encoder_blocks: int = setting(4, "residual blocks of an encoder", minimum=0)
    decoder_blocks: int = setting(5, "residual blocks of a decoder", minimum=0)
    shared_blocks: int = setting(
        0,
        "last residual blocks of the encoders and first of the decoders that all domains share",
        minimum=0,
    )
    sharing: str = setting(
        "none",
        "weights that the encoders of all domains have in common; trunk: all but the first layer, "
        "biases and slopes",
        choices=SHARING,
    )
    image_size: list[int] = setting(
        [96, 128], "height and width in pixels, multiples of 4 (mobile: 16)"
    )

    def build(self) -> NetworkConfig:
        height, width = pair_of(self.image_size, "network.image_size")
        return NetworkConfig(
            width=self.width,
            encoder_blocks=self.encoder_blocks,
            decoder_blocks=self.decoder_blocks,
            image_size=(height, width),
            encoder=self.encoder,
        )


@dataclass
class TrainConfig(RunConfig):
    """A whole recipe of DISAM's own method."""

    stage_names = STAGE_NAMES
    beta1: float = setting(0.5, "of Adam", minimum=0.0, maximum=1.0)
    precision: str = setting(
        "float32", "autocast to this type", choices=("float32", "bfloat16", "float16")
    )
    compile: bool = setting(False, "torch.compile the networks")
    average: list[float] = setting(
        [],
        "shares of the trained weights, 0…1, that are tried in an average with the initial ones, "
        "by domain; empty: no average. Needs `initial` and validation data",
    )
    frozen: list[str] = setting(
        [],
        "domains whose encoders keep the weights that they start from: the others learn to agree "
        "with them",
    )
    calibrate: bool = setting(
        False, "calibrate the model on the validation drives (disam calibrate), if there are any"
    )
    grid_every: int = setting(500, "steps between images of translations; 0: none", minimum=0)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    triplets: TripletConfig = field(default_factory=TripletConfig)
    aligned: AlignedConfig = field(default_factory=AlignedConfig)
    descriptor: DescriptorConfig = field(default_factory=DescriptorConfig)
    stages: list[DisamStageConfig] = field(default_factory=list)

    @property
    def image_size(self) -> tuple[int, int]:
        return self.network.build().image_size

    def start_of(self, stage: DisamStageConfig) -> str:
        """Name of the stage whose networks this one starts from; '': untrained."""
        default = (
            "" if stage.name == "translation" or not self.stage("translation") else "translation"
        )
        return stage.start_from or default

    def check(self) -> None:
        self.network.build()
        super().check()
        for k, stage in enumerate(self.stages):
            if not stage.losses.on():
                names = ", ".join(f.name for f in fields(DisamLossWeights))
                raise ConfigError(
                    f"'stages.{k}.losses' are all off; give a weight to some of {names}"
                )
        if self.average and not (self.initial and self.validates):
            raise ConfigError(
                "'average' needs 'initial' weights and 'validation.data' or 'validation.held_out'"
            )
        if any(not 0.0 <= share <= 1.0 for share in self.average):
            raise ConfigError(f"'average' expects shares from 0 to 1, got {self.average}")
        self._check_shared()
        self._check_frozen()
        if any(stage.losses.distillation for stage in self.stages) and not self.frozen:
            raise ConfigError("'losses.distillation' needs a domain in 'frozen' to learn from")

    def _check_frozen(self) -> None:
        """Frozen domains exist, and something is left to learn: with all encoders frozen, decoders
        and discriminators learn a translation."""
        frozen, domains = set(self.frozen), set(self.domains)
        learns = all(set(stage.losses.on()) <= {"gan", "cycle"} for stage in self.stages)
        if not frozen <= domains or (frozen and frozen == domains and not learns):
            raise ConfigError(
                f"'frozen' expects some of 'domains' ({', '.join(self.domains) or 'none given'}), "
                f"not all but for a translation (losses gan, cycle); got {', '.join(self.frozen)}"
            )

    def _check_shared(self) -> None:
        """Every encoder and decoder has the blocks to share, and no shared weights are frozen."""
        network = self.network
        for name, on in (
            ("shared_blocks", network.shared_blocks),
            ("sharing", network.sharing != "none"),
        ):
            if on and self.frozen:
                raise ConfigError(f"'network.{name}' and 'frozen' exclude each other; drop one")
        least = min(network.encoder_blocks, network.decoder_blocks)
        if network.shared_blocks and (network.encoder != "disam" or network.shared_blocks > least):
            raise ConfigError(
                f"'network.shared_blocks' expects at most {least}, the blocks of encoder and "
                f"decoder, and the paper's encoder; got {network.shared_blocks} with "
                f"'{network.encoder}'"
            )
