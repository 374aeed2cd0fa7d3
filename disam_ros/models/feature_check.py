# SPDX-License-Identifier: Apache-2.0
"""Check of an encoder's features: damaged weights give NaN, zeros or the same in every cell."""

from __future__ import annotations

import torch
from torch import Tensor

from disam_ros.errors import BlindError, ModelError


def require_features(z: Tensor, images: Tensor, source: str) -> Tensor:
    """The features z [B, C, h, w] of images [B, 3, H, W], which are finite and vary.

    They vary over the cells of a channel, or over the channels where there is one cell. source: the
    encoder's file, for the error. Raises ModelError, or BlindError for images of one colour.
    """
    values = z.flatten(2) if z.shape[2:].numel() > 1 else z.flatten(1)[:, None]
    spread = values.amax(-1) - values.amin(-1)  # [B, C] or [B, 1]
    finite = spread.isfinite().all(1)
    sound = finite & (spread.amax(1) > 0.0)
    if bool(sound.all()):
        return z
    pixels = images[~sound].flatten(1)
    if bool((pixels.amax(1) == pixels.amin(1)).all()):
        raise BlindError("the image is of one colour: there is nothing to recognize a place by")
    fault = "have no variance" if bool(finite.all()) else "are not finite"
    raise ModelError(
        f"{source} gives features that {fault}: its weights are damaged or do not suit this "
        f"device; take a sound copy of the model"
    )


def is_of_one_colour(image: Tensor) -> bool:
    """Whether a network input [3, H, W] shows nothing at all."""
    low, high = torch.aminmax(image)
    return bool(low == high)
