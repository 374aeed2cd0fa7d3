# SPDX-License-Identifier: Apache-2.0
"""Place identity of crops: position, optical axis and overlap of boxes.

A place is a row of 11 numbers: group, position (3, metres), optical axis (3), box (4, as
shares of the image: left, top, right, bottom). Crops of a fixed camera differ by their boxes,
images of a drive by position and axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME_VIEW = 0.25  # crops that share more than this of the smaller one are no negatives


@dataclass(frozen=True)
class Box:
    """Part of an image, as shares of its width and height."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def fit_box(
    shape: tuple[int, int], size: tuple[int, int], zoom: float, across: float, down: float
) -> Box:
    """Fits the largest box of the crop's proportions into an image, then 1/zoom of that box.

    shape, size: (height, width) of image and crop. across, down: position of the box, from 0 at the
    left (top) edge to 1 at the right (bottom) edge.
    """
    scale = min(shape[0] / size[0], shape[1] / size[1]) / max(zoom, 1.0)
    width, height = size[1] * scale / shape[1], size[0] * scale / shape[0]
    left, top = across * (1.0 - width), down * (1.0 - height)
    return Box(left, top, left + width, top + height)


def jittered(box: Box, amount: float, random: np.random.Generator) -> Box:
    """Moves and resizes a box at random by up to `amount` of its size, within the image."""
    shift_x, shift_y, grow = random.uniform(-amount, amount, 3)
    grow = min((1 + grow), 1 / (box.right - box.left), 1 / (box.bottom - box.top))
    width, height = (box.right - box.left) * grow, (box.bottom - box.top) * grow
    left = (box.left + box.right - width) / 2 + shift_x * width
    top = (box.top + box.bottom - height) / 2 + shift_y * height
    left, top = min(max(left, 0.0), 1 - width), min(max(top, 0.0), 1 - height)
    return Box(left, top, left + width, top + height)


def same_place(
    a: NDArray[Any], b: NDArray[Any], radius: float, angle: float, overlap: float
) -> NDArray[Any]:
    """Tells which places a [A, 11] and b [B, 11] are the same, bool [A, B].

    radius: maximum distance [m]. angle: maximum angle between the axes [deg]. overlap: share of the
    smaller box that both must see, at least.
    """
    x, y = a[:, None], b[None]
    near = np.linalg.norm(x[..., 1:4] - y[..., 1:4], axis=-1) <= radius
    turned = (x[..., 4:7] * y[..., 4:7]).sum(-1) >= np.cos(np.radians(angle)) - 1e-9
    low, high = np.maximum(x[..., 7:9], y[..., 7:9]), np.minimum(x[..., 9:], y[..., 9:])
    common = (high - low).clip(min=0).prod(-1)
    smaller = np.minimum(_area(x), _area(y))
    result: NDArray[Any] = (
        (x[..., 0] == y[..., 0]) & near & turned & (common > overlap * smaller + 1e-9)
    )
    return result


def _area(place: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = (place[..., 9:] - place[..., 7:9]).prod(-1)
    return result
