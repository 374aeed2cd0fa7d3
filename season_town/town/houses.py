# SPDX-License-Identifier: Apache-2.0
"""House types and their meshes. A house stands behind its front's middle, facing +x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from season_town.arrays import Mesh, Points
from season_town.textures.textures import LAYER
from season_town.town.meshes import Rgb, box, cylinder, quads, wall

Quads = list[list[list[float]]]  # corners [Q, 4, 3]

BAY = 2.6  # metres a facade bay is wide, about
FLOOR = 2.9  # metres a storey is high
TINTS: tuple[Rgb, ...] = (
    (0.96, 0.90, 0.72),
    (0.93, 0.93, 0.90),
    (0.90, 0.70, 0.52),
    (0.72, 0.80, 0.74),
    (0.74, 0.78, 0.86),
    (0.88, 0.66, 0.60),
)
ROOFS: tuple[Rgb, ...] = (
    (0.66, 0.28, 0.18),
    (0.48, 0.22, 0.17),
    (0.30, 0.31, 0.34),
    (0.40, 0.30, 0.24),
)


@dataclass(frozen=True)
class HouseType:
    """A type of house."""

    style: str  # wall style, see textures
    width: float  # metres of the front
    depth: float  # metres behind the front
    floors: int  # number of storeys
    roof: str  # gable (ridge along the street), front (gable to the street), hip or flat
    pitch: float  # rise over run
    setback: float  # least distance from the sidewalk [m]
    window: str  # bay of a facade with a window, see textures
    cover: str = "tiles"  # texture of the roof
    dormer: bool = False
    balcony: bool = False


HOUSE_TYPES = (
    HouseType("plaster", 10.4, 9.0, 2, "gable", 0.9, 3.4, "shutters", dormer=True),
    HouseType("brick", 7.8, 9.0, 2, "front", 1.1, 2.6, "window"),
    HouseType("timber", 7.8, 8.5, 2, "front", 1.35, 1.6, "window"),
    HouseType("siding", 10.4, 8.0, 1, "gable", 0.75, 4.4, "window", "slate"),
    HouseType("concrete", 13.0, 10.0, 4, "flat", 0.0, 3.2, "window", "slate", balcony=True),
    HouseType("plaster", 10.4, 9.5, 3, "hip", 0.7, 2.2, "window", "slate"),
    HouseType("brick", 13.0, 9.0, 1, "hip", 0.6, 4.4, "shutters"),
)


def house_mesh(kind: int, tint: int, roof: int, seed: float) -> Mesh:
    """Makes a house; `seed` decides which window is lit and small variations."""
    house = HOUSE_TYPES[kind]
    rng = np.random.default_rng(int(seed * 1e9))
    colour = TINTS[tint] if house.style != "brick" else _mix(TINTS[tint], 0.75)
    parts = [_facades(rng, house, colour), _roof(house, ROOFS[roof], colour), _steps(house)]
    if house.dormer:
        parts.append(_dormers(rng, house, colour, ROOFS[roof]))
    if house.balcony:
        parts.append(_balconies(house))
    if house.roof != "flat":
        top = house.floors * FLOOR + house.depth * 0.3 * house.pitch
        x, y = -house.depth * 0.62, house.width * rng.choice([-0.22, 0.22])
        low, high = (x - 0.3, y - 0.3, top), (x + 0.3, y + 0.3, top + 2.2)
        parts.append(box(low, high, LAYER["brick_blank"], (0.8, 0.7, 0.65)))
    return np.concatenate(parts)


def _mix(colour: Rgb, share: float) -> Rgb:
    red, green, blue = (share + (1 - share) * c for c in colour)
    return red, green, blue


def _facades(rng: np.random.Generator, house: HouseType, tint: Rgb) -> Mesh:
    """Makes four walls as a grid of bays, on a plinth."""
    half = house.width / 2
    corners = np.array([(0, -half), (0, half), (-house.depth, half), (-house.depth, -half)], float)
    parts = []
    for side, (a, b) in enumerate(zip(corners, np.roll(corners, -1, 0), strict=True)):
        count = round(float(np.linalg.norm(b - a)) / BAY)
        door = count // 2 if house.style != "timber" else 0
        for bay in range(count):
            start, end = a + (b - a) * bay / count, a + (b - a) * (bay + 1) / count
            for floor in range(house.floors):
                name = _bay(rng, house, side, floor == 0 and bay == door)
                layer = LAYER[f"{house.style}_{name}"]
                low = floor * FLOOR
                parts.append(wall(start, end, low, low + FLOOR, layer, tint, rng.random()))
        parts.append(_plinth(a, b))
    return np.concatenate(parts)


def _bay(rng: np.random.Generator, house: HouseType, side: int, is_door: bool) -> str:
    if side == 0:
        return "door" if is_door else house.window
    return house.window if rng.random() < (0.8, 0.35, 0.8, 0.35)[side] else "blank"


def _plinth(a: Points, b: Points) -> Mesh:
    out = np.array([(b - a)[1], -(b - a)[0]]) / np.linalg.norm(b - a) * 0.05
    length = float(np.linalg.norm(b - a))
    plain = LAYER["concrete_blank"]
    return wall(a + out, b + out, 0.0, 0.45, plain, (0.6, 0.58, 0.56), 0.0, (length / 3, 0.2))


def _roof(house: HouseType, tint: Rgb, walls: Rgb) -> Mesh:
    h, w, d = house.floors * FLOOR, house.width / 2, house.depth
    layer, over = LAYER[house.cover], 0.45
    if house.roof == "flat":
        return box((-d - 0.2, -w - 0.2, h - 0.1), (0.2, w + 0.2, h + 0.5), LAYER["concrete_blank"])
    x0, x1, xm = -d - over, over, -d / 2
    if house.roof == "front":
        rise = w * house.pitch
        low, y1 = h - over * house.pitch, w + over
        slopes = [
            [[x1, y1, low], [x0, y1, low], [x0, 0, h + rise], [x1, 0, h + rise]],
            [[x0, -y1, low], [x1, -y1, low], [x1, 0, h + rise], [x0, 0, h + rise]],
        ]
        ends = [
            [[0, -w, h], [0, w, h], [0, 0, h + rise], [0, 0, h + rise]],
            [[-d, w, h], [-d, -w, h], [-d, 0, h + rise], [-d, 0, h + rise]],
        ]
        run = w * np.hypot(1, house.pitch)
        return _slopes_and_gables(house, slopes, ends, (d, run), layer, tint, walls)
    rise = d / 2 * house.pitch
    low, y1 = h - over * house.pitch, w + over
    inset = d / 2 if house.roof == "hip" else -over
    top = h + rise
    slopes = [
        [[x1, -y1, low], [x1, y1, low], [xm, w - inset, top], [xm, -w + inset, top]],
        [[x0, y1, low], [x0, -y1, low], [xm, -w + inset, top], [xm, w - inset, top]],
    ]
    ends = [
        [[0, w, h], [-d, w, h], [xm, w, top], [xm, w, top]],
        [[-d, -w, h], [0, -w, h], [xm, -w, top], [xm, -w, top]],
    ]
    if house.roof == "hip":
        slopes += [
            [[x1, y1, low], [x0, y1, low], [xm, w - inset, top], [xm, w - inset, top]],
            [[x0, -y1, low], [x1, -y1, low], [xm, -w + inset, top], [xm, -w + inset, top]],
        ]
        ends = []
    run = d / 2 * np.hypot(1, house.pitch)
    return _slopes_and_gables(house, slopes, ends, (2 * w, run), layer, tint, walls)


def _slopes_and_gables(
    house: HouseType,
    slopes: Quads,
    gables: Quads,
    size: tuple[float, float],
    layer: float,
    tint: Rgb,
    walls: Rgb,
) -> Mesh:
    roof = quads(slopes, layer, tint, 0.0, (size[0] / 2.5, size[1] / 2.5))
    under = roof[:, ::-1].copy()
    under[..., 2] -= 0.12
    under[..., 3:6] *= -1
    under[..., 8:12] = (LAYER["plain"], 0.35, 0.28, 0.22)
    parts = [roof, under]
    if gables:
        blank = LAYER[f"{house.style}_blank"]
        triangle = np.array([[0, 0], [3, 0], [1.5, 2], [1.5, 2]])
        parts.append(quads(gables, blank, walls, 0.0, triangle))
        if house.pitch > 0.8:
            parts.append(_gable_windows(house, gables, walls))
    return np.concatenate(parts)


def _gable_windows(house: HouseType, gables: Quads, tint: Rgb) -> Mesh:
    windows = []
    for gable in np.array(gables, float):
        middle, along = (gable[0] + gable[1]) / 2, gable[1] - gable[0]
        along /= np.linalg.norm(along)
        middle += 0.03 * np.array([along[1], -along[0], 0])
        a, b = (middle + s * 0.9 * along for s in (-1, 1))
        layer = LAYER[f"{house.style}_window"]
        low = house.floors * FLOOR + 0.2
        windows.append(wall(a[:2], b[:2], low, low + 1.9, layer, tint, 0.37))
    return np.concatenate(windows)


def _dormers(rng: np.random.Generator, house: HouseType, tint: Rgb, roof: Rgb) -> Mesh:
    low = house.floors * FLOOR + 0.7
    parts = []
    for y in (-house.width / 4, house.width / 4):
        x = -0.9
        layer = LAYER[f"{house.style}_window"]
        front = wall((x, y - 0.85), (x, y + 0.85), low, low + 1.6, layer, tint, rng.random())
        body = box((x - 3, y - 0.85, low), (x - 0.02, y + 0.85, low + 1.55), LAYER["plain"], tint)
        lid = box((x - 3.2, y - 1.1, low + 1.55), (x + 0.25, y + 1.1, low + 1.75), LAYER["plain"])
        lid[..., 9:12] = roof
        parts += [front, body, lid]
    return np.concatenate(parts)


def _balconies(house: HouseType) -> Mesh:
    parts = []
    for floor in range(1, house.floors):
        z = floor * FLOOR
        for y in (-house.width * 0.3, house.width * 0.3):
            slab = box((0, y - 1.3, z - 0.05), (1.2, y + 1.3, z + 0.12), LAYER["plain"])
            slab[..., 9:12] = 0.6
            front = wall((1.2, y - 1.3), (1.2, y + 1.3), z + 0.1, z + 1.0, LAYER["iron"])
            parts += [slab, front]
    return np.concatenate(parts)


def _steps(house: HouseType) -> Mesh:
    post = cylinder(
        [0.08, house.width / 2 - 0.1, 0],
        [0.08, house.width / 2 - 0.1, 2.9],
        0.05,
        0.05,
        LAYER["plain"],
        (0.4, 0.4, 0.42),
        4,
    )
    step = box((0, -0.9, 0), (0.9, 0.9, 0.16), LAYER["concrete_blank"], (0.8, 0.8, 0.8))
    return np.concatenate([step, post])
