# SPDX-License-Identifier: Apache-2.0
"""Leaves, roofs, grounds and signs. Alpha is coverage."""

from __future__ import annotations

import cv2
import numpy as np

from season_town.arrays import Picture
from season_town.textures.texture_canvas import SIZE, fractal_noise, grey


def _sprinkle(
    rng: np.random.Generator, count: int, size: tuple[int, int], spread: float, tall: float
) -> Picture:
    """Paints random leaves of bright to dark grey, thinning out towards the border."""
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    for shade in np.linspace(110, 255, count):
        angle, radius = rng.uniform(0, 2 * np.pi), spread * np.sqrt(rng.uniform())
        radius *= 0.8 + 0.2 * np.sin(angle * 5 + 1.0)
        centre = (int(128 + radius * np.cos(angle)), int(128 + radius * np.sin(angle)))
        axes = (int(rng.integers(*size)), max(2, int(rng.integers(*size) * tall)))
        value = int(np.clip(shade + rng.normal(0, 25), 70, 255))
        cv2.ellipse(
            picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, (value,) * 3 + (255,), -1
        )
    return picture


def _leaf(rng: np.random.Generator) -> Picture:
    return _sprinkle(rng, 420, (6, 13), 112.0, 0.55)


def _hedge(rng: np.random.Generator) -> Picture:
    picture = grey(np.full((SIZE, SIZE), 85.0))
    for shade in np.linspace(95, 250, 1500):
        at = tuple(int(v) for v in rng.integers(0, SIZE, 2))
        value = int(np.clip(shade + rng.normal(0, 20), 60, 255))
        cv2.ellipse(
            picture, at, (7, 4), float(rng.uniform(0, 180)), 0, 360, (value,) * 3 + (255,), -1
        )
    return picture


def _needle(rng: np.random.Generator) -> Picture:
    """Paints a skirt of twigs: full at the top, fraying at the bottom."""
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    for _ in range(900):
        x, y = int(rng.integers(0, SIZE)), int(rng.integers(0, 215))
        value = int(rng.uniform(90, 250))
        end = (x + int(rng.normal(0, 9)), y + int(rng.integers(18, 42)))
        cv2.line(picture, (x, y), end, (value, value, value, 255), 3)
    return picture


def _branch(rng: np.random.Generator) -> Picture:
    """Paints a leafless crown growing from the middle of the lower border."""
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)

    def grow(x: float, y: float, angle: float, length: float, width: float) -> None:
        end = (x + length * np.sin(angle), y - length * np.cos(angle))
        value = int(rng.uniform(170, 240))
        first, last = (int(x * 16), int(y * 16)), (int(end[0] * 16), int(end[1] * 16))
        ink = (value, value, value, 255)
        cv2.line(picture, first, last, ink, max(1, round(width)), cv2.LINE_8, 4)
        if length > 9:
            for turn in (-0.55, 0.08, 0.55):
                grow(*end, angle + turn + rng.normal(0, 0.22), length * 0.7, width * 0.6)

    grow(128, 256, 0.0, 72, 8)
    return picture


def _picket(rng: np.random.Generator) -> Picture:
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    for x in range(0, SIZE, 32):
        tip = np.array([[x + 4, 255], [x + 4, 30], [x + 14, 6], [x + 24, 30], [x + 24, 255]])
        value = int(rng.uniform(205, 250))
        cv2.fillPoly(picture, [tip], (value, value, value, 255))
    for y in (70, 190):
        picture[y : y + 22] = (190, 190, 190, 255)
    return picture


def _iron(_: np.random.Generator) -> Picture:
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    for x in range(8, SIZE, 24):
        picture[12:, x : x + 6] = (70, 72, 76, 255)
    for y in (24, 128, 235):
        picture[y : y + 10] = (60, 62, 66, 255)
    return picture


def _plain(_: np.random.Generator) -> Picture:
    return np.full((SIZE, SIZE, 4), 255, np.uint8)


def _tiles(rng: np.random.Generator) -> Picture:
    rows = np.tile(np.linspace(255, 170, 16), 16)
    value = np.repeat(rows[:, None], SIZE, 1) * rng.uniform(0.8, 1.0, (16, 16)).repeat(
        16, 0
    ).repeat(16, 1)
    value[:, ::16] *= 0.7
    value[::16] *= 0.5
    return grey(value)


def _slate(rng: np.random.Generator) -> Picture:
    shade = rng.uniform(0.7, 1.0, (32, 16)).repeat(8, 0).repeat(16, 1)
    value = 235 * shade
    value[::8] *= 0.55
    return grey(value)


def _bark(rng: np.random.Generator) -> Picture:
    ridges = fractal_noise(rng, 0.9)[::8].repeat(8, 0)
    return grey(110 + 130 * ridges)


def _grass(rng: np.random.Generator) -> Picture:
    value = 0.55 * fractal_noise(rng, 0.4) + 0.45 * fractal_noise(rng, 1.3)
    return grey(60 + 150 * value, (0.78, 1.0, 0.45))


def _asphalt(rng: np.random.Generator) -> Picture:
    value = 58 + 38 * fractal_noise(rng, 0.15) + 30 * fractal_noise(rng, 1.3)
    return grey(value, (1.0, 1.0, 1.03))


def _paving(rng: np.random.Generator) -> Picture:
    value = rng.uniform(165, 205, (8, 4)).repeat(32, 0).repeat(64, 1)
    value += 30 * (fractal_noise(rng, 0.6) - 0.5)
    value[::32] = value[1::32] = 110
    for row in range(8):
        value[row * 32 : row * 32 + 32, (row % 2) * 32 :: 64] = 110
    return grey(value, (1.0, 0.97, 0.93))


def _noise(rng: np.random.Generator) -> Picture:
    powers = (1.6, 1.0, 0.4, 1.9)
    return (255 * np.dstack([fractal_noise(rng, p) for p in powers])).astype(np.uint8)


def paint_sign(kind: int) -> Picture:
    """Draws a traffic sign: 0 priority, 1 speed limit, 2 give way, 3 crossing."""
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    white, red, blue = (245, 245, 245, 255), (190, 30, 30, 255), (30, 70, 170, 255)
    if kind == 0:  # priority
        cv2.fillPoly(picture, [np.array([[128, 2], [253, 128], [128, 253], [2, 128]])], white)
        inner = np.array([[128, 45], [211, 128], [128, 211], [45, 128]])
        cv2.fillPoly(picture, [inner], (240, 190, 30, 255))
    elif kind == 1:  # speed limit
        cv2.circle(picture, (128, 128), 125, red, -1)
        cv2.circle(picture, (128, 128), 95, white, -1)
        cv2.putText(picture, "30", (58, 164), 0, 3.2, (20, 20, 20, 255), 16)
    elif kind == 2:  # give way
        cv2.fillPoly(picture, [np.array([[2, 10], [253, 10], [128, 250]])], red)
        cv2.fillPoly(picture, [np.array([[52, 40], [203, 40], [128, 185]])], white)
    else:  # crossing
        cv2.rectangle(picture, (4, 4), (251, 251), blue, -1)
        cv2.fillPoly(picture, [np.array([[128, 40], [220, 210], [36, 210]])], white)
        cv2.line(picture, (128, 90), (112, 190), (20, 20, 20, 255), 16)
    return picture


CUTOUT_PAINTERS = {
    "leaf": _leaf,
    "needle": _needle,
    "branch": _branch,
    "hedge": _hedge,
    "picket": _picket,
    "iron": _iron,
}


OTHER_PAINTERS = {
    "plain": _plain,
    "tiles": _tiles,
    "slate": _slate,
    "bark": _bark,
    "grass": _grass,
    "asphalt": _asphalt,
    "paving": _paving,
    "noise": _noise,
    "glow": _plain,
}
