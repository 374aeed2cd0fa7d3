# SPDX-License-Identifier: Apache-2.0
"""Depth maps: float32 [H, W] metres along the optical axis ↔ 16-bit PNG.

In memory NaN means unknown and infinity beyond the range of the format (the sky). In a PNG a value
counts steps of `unit` metres, 0 means unknown and 65535 beyond range.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import ImageError
from disam_ros.image import PNG, PNG_END, require_pixels, size_of

DEPTH_UNIT = 0.002  # metres per step in the datasets written here: up to 131 m
UNKNOWN, BEYOND = 0, 65535


def encode_depth(depth: NDArray[np.floating[Any]], unit: float = DEPTH_UNIT) -> bytes:
    """Encode a depth map as PNG, rounded to steps of `unit` metres.

    NaN, negative values and zero become unknown; values beyond 65534 steps become BEYOND.
    Raises ImageError unless `depth` is a floating-point array [H, W] with pixels.
    """
    _check(depth)
    with np.errstate(invalid="ignore"):
        steps = np.rint(depth.astype(np.float64) / unit)
        steps = np.where(depth > 0, np.maximum(steps, UNKNOWN + 1), UNKNOWN)
    values = np.minimum(steps, BEYOND).astype(np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()


def decode_depth(data: bytes, unit: float, what: str = "depth map") -> NDArray[np.float32]:
    """Decode a PNG: [H, W] metres, NaN where unknown, infinite where beyond range.

    Raises ImageError, naming `what`, for bytes that are no complete 16-bit PNG of one channel.
    """
    if not data.startswith(PNG) or not data.endswith(PNG_END):
        raise ImageError(f"{what} is no complete PNG ({len(data)} bytes)")
    height, width = size_of(data, what)
    require_pixels(height, width, what)
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{what} cannot be decoded: {error.err}") from error
    if values is None:
        raise ImageError(f"{what} is a damaged PNG ({len(data)} bytes)")
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ImageError(
            f"{what} holds {values.dtype} {list(values.shape)}; expected 16 bits, one channel"
        )
    depth: NDArray[np.float32] = (values * float(unit)).astype(np.float32)
    depth[values == UNKNOWN] = np.nan
    depth[values == BEYOND] = np.inf
    return depth


def same_view(depth: NDArray[np.floating[Any]], width: int, height: int) -> bool:
    """Whether a depth map [H, W] has the aspect ratio of an image, to a pixel of rounding."""
    rows: int
    columns: int
    rows, columns = depth.shape
    return abs(columns * height - rows * width) <= max(width, height)


def _check(depth: NDArray[np.floating[Any]]) -> None:
    """Raise ImageError unless an array can be a depth map."""
    if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.size == 0:
        raise ImageError(f"expected a depth map [H, W], got shape {getattr(depth, 'shape', None)}")
    if not np.issubdtype(depth.dtype, np.floating):
        raise ImageError(f"expected depth in metres as floating point, got {depth.dtype}")
