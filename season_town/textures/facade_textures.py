# SPDX-License-Identifier: Apache-2.0
"""Walls of five styles with windows and doors.

Alpha selects the shader's treatment of a pixel: 255 wall (takes the tint of the house), 128 frame,
beam or door (own colour), 0 glass (may be lit).
"""

from __future__ import annotations

import cv2
import numpy as np

from season_town.arrays import Picture
from season_town.textures.texture_canvas import SIZE, fractal_noise, grey

STYLES = ("plaster", "brick", "timber", "siding", "concrete")
BAYS = ("blank", "window", "shutters", "door")


def paint_facade(rng: np.random.Generator, style: str, bay: str) -> Picture:
    """Paints one bay of a wall, uint8 RGBA [SIZE, SIZE, 4]."""
    picture = np.ascontiguousarray(_WALL_PAINTERS[style](rng))
    if bay != "blank":
        _OPENINGS[bay](picture, STYLES.index(style))
    return picture


def _plaster(rng: np.random.Generator) -> Picture:
    return grey(212 + 36 * fractal_noise(rng, 1.2) + 8 * rng.standard_normal((SIZE, SIZE)))


def _brick(rng: np.random.Generator) -> Picture:
    value = np.full((SIZE, SIZE), 175.0)
    for row in range(32):
        for column in range(-1, 11):
            x, y = column * 24 + (row % 2) * 12, row * 8
            value[y + 1 : y + 8, max(x + 1, 0) : max(x + 24, 0)] = rng.uniform(165, 250)
    value += 18 * (fractal_noise(rng, 1.0) - 0.5)
    red = grey(value, (0.98, 0.62, 0.50))
    mortar = value < 176
    red[mortar, :3] = 190
    return red


def _timber(rng: np.random.Generator) -> Picture:
    picture = np.ascontiguousarray(_plaster(rng))
    beam = (58, 38, 26, 128)
    for x in (0, 255, 62, 193):
        cv2.line(picture, (x, 0), (x, 255), beam, 13)
    for y in (0, 255, 210):
        cv2.line(picture, (0, y), (255, y), beam, 14)
    cv2.line(picture, (0, 210), (60, 4), beam, 11)
    cv2.line(picture, (255, 210), (195, 4), beam, 11)
    return picture


def _siding(rng: np.random.Generator) -> Picture:
    board = np.tile(np.linspace(252, 205, 16), SIZE // 16)
    board[::16] = 120
    return grey(board[:, None] + 14 * (fractal_noise(rng, 0.8) - 0.5))


def _concrete(rng: np.random.Generator) -> Picture:
    value = 190 + 45 * fractal_noise(rng, 1.0)
    value[::128] = 110
    value[:, :2] = 130
    return grey(value)


def _glass(picture: Picture, x0: int, y0: int, x1: int, y1: int) -> None:
    """Paints a pane with curtains and a reflection gradient."""
    ramp = np.linspace(1.0, 0.45, y1 - y0)[:, None, None]
    picture[y0:y1, x0:x1] = 0
    picture[y0:y1, x0:x1, :3] = ramp * np.array([72, 84, 98])
    curtain = (x1 - x0) // 4
    for a, b in ((x0, x0 + curtain), (x1 - curtain, x1)):
        picture[y0:y1, a:b, :3] = (150, 145, 135)
        picture[y0:y1, a:b:5, :3] = (115, 110, 100)


def _window(picture: Picture, style: int, x0: int = 72, x1: int = 184) -> None:
    frame = ((238, 238, 232), (245, 240, 225), (120, 70, 40), (250, 250, 250), (70, 74, 80))[style]
    y0, y1 = 62, 196
    cv2.rectangle(picture, (x0 - 12, y0 - 12), (x1 + 12, y1 + 8), (*frame, 128), -1)
    cv2.rectangle(picture, (x0 - 4, y0 - 4), (x1 + 4, y1 + 4), (60, 58, 55, 128), -1)
    cv2.rectangle(picture, (x0, y0), (x1, y1), (*frame, 128), -1)
    middle = (x0 + x1) // 2
    for a, b in ((x0 + 7, middle - 4), (middle + 4, x1 - 7)):
        _glass(picture, a, y0 + 7, b, y0 + 40)
        _glass(picture, a, y0 + 47, b, y1 - 7)
    cv2.rectangle(picture, (x0 - 18, y1 + 4), (x1 + 18, y1 + 14), (200, 195, 185, 128), -1)
    cv2.rectangle(picture, (x0 - 16, y1 + 15), (x1 + 16, y1 + 20), (110, 105, 100, 128), -1)


def _shutters(picture: Picture, style: int) -> None:
    colours = ((52, 92, 70), (60, 62, 66), (96, 44, 34), (44, 70, 110), (120, 110, 92))
    colour = np.array(colours[style])
    _window(picture, style, 84, 172)
    for x in (30, 180):
        picture[54:204, x : x + 46] = (*colour, 128)
        picture[60:198:8, x + 5 : x + 41, :3] = (colour * 0.6).astype(np.uint8)


def _door(picture: Picture, style: int) -> None:
    colour = ((96, 58, 34), (38, 66, 52), (70, 42, 26), (150, 40, 36), (58, 62, 72))[style]
    cv2.rectangle(picture, (70, 48), (186, 255), (225, 220, 210, 128), -1)
    cv2.rectangle(picture, (82, 58), (174, 255), (*colour, 128), -1)
    for x in (92, 134):
        for y in (120, 188):
            dark = tuple(int(c * 0.65) for c in colour)
            cv2.rectangle(picture, (x, y), (x + 30, y + 54), (*dark, 128), 3)
    _glass(picture, 92, 68, 164, 108)
    cv2.rectangle(picture, (56, 34), (200, 46), (95, 90, 85, 128), -1)


_WALL_PAINTERS = {
    "plaster": _plaster,
    "brick": _brick,
    "timber": _timber,
    "siding": _siding,
    "concrete": _concrete,
}


_OPENINGS = {"window": _window, "shutters": _shutters, "door": _door}
