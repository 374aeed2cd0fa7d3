# SPDX-License-Identifier: Apache-2.0
"""Pictures: heat over an image, and a match: query, map image and activation map side by side, text
below them.

Needs neither ROS nor a localizer: `disam view` takes it apart again.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import ImageError

WIDTH = 320  # of a panel [px]
MIN_HEIGHT, MAX_HEIGHT = 32, 512  # of a panel [px]
PANELS = 3
LINE = 20  # height of a line of text [px]
LINES = 2
TEXT = LINE * LINES
PAPER, INK, FAINT = (28, 24, 22), (236, 233, 230), (165, 158, 150)  # BGR
FONT, SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
MARGIN = 6  # of text [px]
HEAT_SHARE = 0.5  # of the heat's colour where it is hottest


def compose(
    pictures: Sequence[NDArray[np.uint8] | str], titles: Sequence[str], text: str
) -> NDArray[np.uint8]:
    """Draw PANELS pictures, uint8 RGB, or words in their place, titles below them, then the text.

    Returns uint8 BGR [h + TEXT, PANELS * WIDTH, 3]. The panels have the shape of the first picture,
    unless that is very wide or high.
    """
    first = pictures[0]
    if isinstance(first, str):
        raise ImageError("the first panel needs a picture")
    height = min(MAX_HEIGHT, max(MIN_HEIGHT, round(WIDTH * first.shape[0] / first.shape[1])))
    canvas = np.full((height + TEXT, PANELS * WIDTH, 3), PAPER, np.uint8)
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left = number * WIDTH
        panel = canvas[:height, left : left + WIDTH]
        if isinstance(picture, str):
            _write(panel, picture, (MARGIN, height // 2), FAINT)
        else:
            _fit(panel, picture)
        _write(canvas, title, (left + MARGIN, height + LINE - MARGIN), FAINT)
    _write(canvas, text, (MARGIN, height + TEXT - MARGIN), INK)
    return canvas


def panels(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The panels of such a picture, uint8 BGR [h, WIDTH, 3]. Raises ImageError for another one."""
    height, width = picture.shape[:2]
    if width != PANELS * WIDTH or height <= TEXT:
        raise ImageError(
            f"expected {PANELS} panels of {WIDTH} px over {TEXT} px of text, got {width}x{height}"
        )
    return np.split(picture[:-TEXT], PANELS, axis=1)


def overlay_heat(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Heat (float32 [g, g] in [0, 1]) over an image (uint8 RGB [H, W, 3]); returns a new image."""
    height, width = image.shape[:2]
    spread = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((255 * spread).astype(np.uint8), cv2.COLORMAP_JET)
    colors = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)
    share = HEAT_SHARE * spread[..., None]
    return ((1 - share) * image + share * colors).astype(np.uint8)


def _fit(panel: NDArray[np.uint8], picture: NDArray[np.uint8]) -> None:
    """Draw a picture, RGB, into the middle of a panel, BGR, as large as it fits."""
    (height, width), (rows, columns) = panel.shape[:2], picture.shape[:2]
    scale = min(height / rows, width / columns)
    size = max(1, round(scale * columns)), max(1, round(scale * rows))
    if abs(size[0] - width) <= 2 and abs(size[1] - height) <= 2:
        size = width, height
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, size, interpolation=method)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    panel[top : top + size[1], left : left + size[0]] = resized[..., ::-1]


def _write(
    canvas: NDArray[np.uint8], text: str, at: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Write a text in ASCII, as OpenCV has no other letters."""
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, ascii_text, at, FONT, SCALE, colour, 1, cv2.LINE_AA)
