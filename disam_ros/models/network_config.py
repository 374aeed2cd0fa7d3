# SPDX-License-Identifier: Apache-2.0
"""Kind and size of an encoder, as model.json stores it under `network`; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from disam_ros.errors import ModelError

ENCODERS = ("disam", "mobile")
MOBILE_CHANNELS, MOBILE_STRIDE = 112, 16  # of the mobile encoder's features
MOST = 1024  # channels of the first layer, and blocks
LARGEST_SIDE = 4096  # of a network's images [px]


@dataclass(frozen=True)
class NetworkConfig:
    """Kind and size of the networks. Latent features are [4·width, height/s, width_px/s].

    encoder: "disam", the paper's (stride s = 4), or "mobile", the EfficientNet-Lite0 backbone
    (s = 16, mobile.py), whose width is 28 and whose number of blocks is fixed.
    """

    width: int = 64  # channels of the first layer
    encoder_blocks: int = 4
    decoder_blocks: int = 5
    image_size: tuple[int, int] = (256, 256)  # height, width in pixels; multiples of s
    encoder: str = "disam"

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.encoder not in ENCODERS:
            raise ModelError(f"encoder must be one of {', '.join(ENCODERS)}, got '{self.encoder}'")
        if self.encoder == "mobile" and self.channels != MOBILE_CHANNELS:
            raise ModelError(
                f"the mobile encoder has width {MOBILE_CHANNELS // 4}, got {self.width}"
            )
        if not 1 <= self.width <= MOST:
            raise ModelError(f"width must be 1 to {MOST}, got {self.width}")
        if not (0 <= self.encoder_blocks <= MOST and 0 <= self.decoder_blocks <= MOST):
            raise ModelError(f"blocks must be 0 to {MOST}, got {self}")
        sound = min(height, width) >= 16 and max(height, width) <= LARGEST_SIDE
        if not sound or height % self.stride or width % self.stride:
            raise ModelError(
                f"image size must be multiples of {self.stride}, 16 to {LARGEST_SIDE}, got "
                f"{height}x{width}"
            )

    @property
    def is_mobile(self) -> bool:
        """Whether the encoder is the mobile one."""
        return self.encoder == "mobile"

    @property
    def depthwise(self) -> bool:
        """Whether convolutions are depthwise: a CPU runs those faster with channels last."""
        return self.is_mobile

    @property
    def channels(self) -> int:
        """Latent channels n."""
        return 4 * self.width

    @property
    def stride(self) -> int:
        """Stride of the latent features [px]."""
        return MOBILE_STRIDE if self.is_mobile else 4

    @property
    def feature_size(self) -> tuple[int, int]:
        """Rows and columns of the latent features."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride


PRESETS = {
    "full": NetworkConfig(),  # the paper's
    "lite": NetworkConfig(width=24, image_size=(96, 128)),  # for two CPU cores; docs/performance.md
    "mobile": NetworkConfig(width=28, image_size=(192, 256), encoder="mobile"),  # likewise
}
