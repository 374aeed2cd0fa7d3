# SPDX-License-Identifier: Apache-2.0
"""Architecture of a global descriptor network; stored in model.json under `network`."""

from __future__ import annotations

from dataclasses import dataclass

from disam_ros.errors import ModelError
from disam_ros.models.network_config import MOBILE_CHANNELS

BACKBONES = ("vgg16", "resnet18", "alexnet", "mobile", "disam")
HEADS = ("netvlad", "mac", "gem", "safa")
SMALLEST, LARGEST_SIDE = 32, 4096  # pixels of an image's side
MOST = 1024  # clusters, position maps, channels of the first layer, blocks


@dataclass(frozen=True)
class GlobalConfig:
    """Architecture and size. Images [B, 3, H, W] in [−1, 1] → z [B, channels, 1, 1].

    Raises ModelError for an inconsistent combination.
    """

    backbone: str = "mobile"  # one of BACKBONES
    head: str = "netvlad"  # one of HEADS
    clusters: int = 64  # of netvlad
    heads: int = 8  # position maps of safa
    size: int = 0  # dimension after PCA whitening; 0: no whitening
    depth: bool = False  # a second descriptor, of the depth map predicted from the image
    hallucinated: bool = False  # with depth: it imitates that of true depth maps, from the image
    width: int = 24  # of the disam backbone (networks.py)
    encoder_blocks: int = 4  # of the disam backbone
    image_size: tuple[int, int] = (192, 256)  # height, width in pixels; multiples of the stride

    def __post_init__(self) -> None:
        for what, choices in (("backbone", BACKBONES), ("head", HEADS)):
            value = getattr(self, what)
            if value not in choices:
                raise ModelError(f"{what} must be one of {', '.join(choices)}, got '{value}'")
        for what, least in (("clusters", 1), ("heads", 1), ("width", 1), ("encoder_blocks", 0)):
            if not least <= getattr(self, what) <= MOST:
                raise ModelError(f"{what} must be {least} to {MOST}, got {getattr(self, what)}")
        height, width = self.image_size
        sound = min(height, width) >= SMALLEST and max(height, width) <= LARGEST_SIDE
        if not sound or height % self.stride or width % self.stride:
            raise ModelError(
                f"image size must be multiples of {self.stride}, {SMALLEST} to {LARGEST_SIDE}, "
                f"with backbone {self.backbone}, got {height}x{width}"
            )
        if self.hallucinated and not self.depth:
            raise ModelError("hallucinated: true needs depth: true, got depth: false")
        if not 0 <= self.size <= self.plain:
            raise ModelError(
                f"size must be 0 (no whitening) to {self.plain}, what {self.backbone} and "
                f"{self.head} give, got {self.size}"
            )

    @property
    def encoder(self) -> str:
        """Kind of network in model.json, as NetworkConfig.encoder."""
        return "global"

    @property
    def stride(self) -> int:
        """Stride of the backbone's features [px]."""
        return 4 if self.backbone == "disam" else 16

    @property
    def latent(self) -> int:
        """Channels of the backbone's features."""
        channels = {"vgg16": 512, "resnet18": 256, "alexnet": 256, "mobile": MOBILE_CHANNELS}
        return channels.get(self.backbone, 4 * self.width)

    @property
    def depth_latent(self) -> int:
        """Channels of the depth map's features: AlexNet's; half of it with a small backbone."""
        return 128 if self.backbone in ("mobile", "disam") else 256

    @property
    def plain(self) -> int:
        """Dimension of a descriptor before whitening."""
        channels = self.latent + (self.depth_latent if self.depth else 0)
        return channels * {"netvlad": self.clusters, "safa": self.heads}.get(self.head, 1)

    @property
    def channels(self) -> int:
        """Dimension of a descriptor."""
        return self.size or self.plain

    @property
    def feature_size(self) -> tuple[int, int]:
        """Rows and columns of z: a single cell."""
        return 1, 1

    @property
    def depthwise(self) -> bool:
        """Whether convolutions are depthwise: a CPU runs those faster with channels last."""
        return self.backbone == "mobile"
