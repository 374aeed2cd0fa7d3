# SPDX-License-Identifier: Apache-2.0
"""Textures of the ground from above: its cover, and the light of street lamps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from season_town.arrays import Picture, Points
from season_town.town.houses import HOUSE_TYPES
from season_town.town.layout import House, Town
from season_town.town.props import LAMP_HEIGHT, LAMP_REACH, is_broken, lamp_colour
from season_town.town.streets import ROAD_HALF, SIDEWALK_OUTER

EXTENT = 280.0  # metres, side of the square pictures centred on the map origin
SPLAT_SIZE = 4096
LIGHT_SIZE = 512
_SHIFT = 4  # fixed-point bits for sub-pixel drawing


def splat_map(town: Town, size: int = SPLAT_SIZE) -> Picture:
    """Draws the ground cover, uint8 [size, size, 4]: road, paved, paint and curb, wheel tracks.

    Row 0 is the southern border, column 0 the western one.
    """
    road, paved, paint, track = (np.zeros((size, size), np.uint8) for _ in range(4))
    pixel = _Pixels(size)
    for a, b in town.streets:
        pixel.line(paved, a, b, 2 * SIDEWALK_OUTER)
        pixel.line(road, a, b, 2 * ROAD_HALF)
    for node in town.nodes.reshape(-1, 2):
        if any(np.allclose(node, end) for street in town.streets for end in street):
            pixel.disc(paved, node, SIDEWALK_OUTER + 2.2)
            pixel.disc(road, node, ROAD_HALF + 2.0)
    for house in town.houses:
        _garden_path(pixel, paved, house)
    _markings(pixel, town, paint)
    curb = cv2.morphologyEx(road, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    paint[curb > 0] = 110
    _tracks(pixel, town, track)
    return np.dstack([road, paved, paint, cv2.GaussianBlur(track, (0, 0), 0.16 * pixel.scale)])


class _Pixels:
    """Draws metres into a picture."""

    def __init__(self, size: int) -> None:
        self.scale = size / EXTENT
        self.size = size

    def at(self, point: Points) -> tuple[int, int]:
        """Returns the fixed-point pixel of a point [2]."""
        pixel = (np.asarray(point) * self.scale + self.size / 2 - 0.5) * (1 << _SHIFT)
        x, y = np.rint(pixel).astype(int)
        return int(x), int(y)

    def line(self, picture: Picture, a: Points, b: Points, width: float, value: int = 255) -> None:
        across = np.array([-(b - a)[1], (b - a)[0]]) / np.linalg.norm(b - a) * width / 2
        corners = np.array([self.at(p) for p in (a + across, b + across, b - across, a - across)])
        cv2.fillConvexPoly(picture, corners, value, cv2.LINE_AA, _SHIFT)

    def disc(self, picture: Picture, centre: Points, radius: float) -> None:
        reach = round(radius * self.scale * (1 << _SHIFT))
        cv2.circle(picture, self.at(centre), reach, 255, -1, cv2.LINE_AA, _SHIFT)


def _garden_path(pixel: _Pixels, paved: Picture, house: House) -> None:
    forward = np.array([np.cos(house.yaw), np.sin(house.yaw)])
    end = house.position + (house.setback + 0.3) * forward
    pixel.line(paved, house.position, end, 1.3)
    if house.seed < 0.4:  # a driveway next to the house
        left = np.array([-forward[1], forward[0]])
        shift = (HOUSE_TYPES[house.kind].width / 2 + 1.4) * left
        pixel.line(paved, house.position + shift - 6 * forward, end + shift, 2.4)


def _markings(pixel: _Pixels, town: Town, paint: Picture) -> None:
    for index, (a, b) in enumerate(town.streets):
        length = float(np.linalg.norm(b - a))
        along = (b - a) / length
        left = np.array([-along[1], along[0]])
        for t in np.arange(11.0, length - 12.0, 4.5):
            pixel.line(paint, a + t * along, a + (t + 2.2) * along, 0.14)
        for end, inward in ((a, along), (b, -along)):
            side = -left if end is a else left
            edge = end + 8.2 * inward
            pixel.line(paint, edge, edge - side * ROAD_HALF * 0.93, 0.4)
        if index % 3 == 0:
            middle = a + 0.5 * length * along
            for y in np.arange(-3.6, 3.7, 0.9):
                start = middle + y * left
                pixel.line(paint, start - 1.6 * along, start + 1.6 * along, 0.45)


def _tracks(pixel: _Pixels, town: Town, track: Picture) -> None:
    """Draws wheel tracks: dark through snow, polished otherwise."""
    for a, b in town.streets:
        left = np.array([-(b - a)[1], (b - a)[0]]) / np.linalg.norm(b - a)
        for y in (-2.2, -0.8, 0.8, 2.2):
            pixel.line(track, a + y * left, b + y * left, 0.5)


def light_map(town: Town, size: int = LIGHT_SIZE) -> NDArray[np.float16]:
    """Computes the light of street lamps on the ground, [size, size, 3], rows from the south."""
    axis = (np.arange(size) + 0.5) * EXTENT / size - EXTENT / 2
    light = np.zeros((size, size, 3), np.float32)
    for prop in town.props:
        if prop.kind != "lamp" or is_broken(prop.seed):
            continue
        x, y = prop.position + LAMP_REACH * np.array([np.cos(prop.yaw), np.sin(prop.yaw)])
        square = (axis[:, None] - y) ** 2 + (axis[None] - x) ** 2
        fall = (LAMP_HEIGHT**2 / (LAMP_HEIGHT**2 + square)) ** 2.2
        light += fall[..., None] * np.array(lamp_colour(prop.seed), np.float32) ** 2
    return light.astype(np.float16)
