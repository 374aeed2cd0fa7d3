# SPDX-License-Identifier: Apache-2.0
"""Thumbnails of map images: small JPEGs for people; localization never reads them.

`thumbnails.npy` is uint8 [N, BYTES]: per map image a row of fixed size with a JPEG, then zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros import image
from disam_ros.datasets.sources import PosedImage

FILE = "thumbnails.npy"
BYTES = 6144  # of a row
SIDES = (256, 128, 64)  # longer side [px]: the largest of which a JPEG fits
QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # of the JPEG: the best that fits


@dataclass(frozen=True)
class ThumbnailMaker:
    """Makes the rows of images; can be sent to other processes."""

    def row(self, item: PosedImage, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes uint8 [BYTES] of an image, whose pixels are uint8 RGB [H, W, 3]."""
        row = np.zeros(BYTES, np.uint8)
        jpeg = _jpeg(pixels)
        row[: len(jpeg)] = np.frombuffer(jpeg, np.uint8)
        return row


def picture(row: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    """The thumbnail uint8 RGB [h, w, 3] in a row. Raises ImageError, naming `what`."""
    return image.decode(row.tobytes().rstrip(b"\0"), what)


def shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image [H, W, 3] whose longer side is at most `side` pixels."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The largest and best JPEG of at most BYTES bytes; one of noise fits at the least of both."""
    data, small = b"", pixels
    for side, quality in product(SIDES, QUALITIES):
        if quality == QUALITIES[0]:
            small = shrink(pixels, side)
        data = image.encode_jpeg(small, quality)
        if len(data) <= BYTES:
            break
    return data
