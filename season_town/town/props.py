# SPDX-License-Identifier: Apache-2.0
"""Meshes of small things, facing +x at the origin: lamps, signs, fences, cars, people."""

from __future__ import annotations

import numpy as np

from season_town.arrays import Mesh, Points
from season_town.textures.textures import LAYER
from season_town.town.meshes import Rgb, box, cylinder, place, prism, quads, wall

LAMP_HEIGHT = 5.2
LAMP_REACH = 1.1  # the head hangs this far in front of the pole
STEEL: Rgb = (0.34, 0.36, 0.38)
PLAIN, GLOW = LAYER["plain"], LAYER["glow"]
CAR_COLOURS: tuple[Rgb, ...] = (
    (0.75, 0.76, 0.78),
    (0.17, 0.17, 0.18),
    (0.55, 0.07, 0.07),
    (0.12, 0.22, 0.45),
    (0.90, 0.90, 0.88),
    (0.35, 0.37, 0.40),
    (0.18, 0.33, 0.22),
    (0.80, 0.62, 0.15),
)


def lamp_mesh(seed: float) -> Mesh:
    pole = cylinder([0, 0, 0], [0, 0, LAMP_HEIGHT], 0.09, 0.05, PLAIN, STEEL, 5)
    arm = cylinder(
        [0, 0, LAMP_HEIGHT], [LAMP_REACH, 0, LAMP_HEIGHT + 0.15], 0.04, 0.04, PLAIN, STEEL, 4
    )
    x, z = LAMP_REACH, LAMP_HEIGHT
    head = box((x - 0.35, -0.13, z + 0.08), (x + 0.35, 0.13, z + 0.22), PLAIN, STEEL)
    bulb = PLAIN if is_broken(seed) else GLOW
    glow = box((x - 0.28, -0.11, z - 0.04), (x + 0.28, 0.11, z + 0.08), bulb, lamp_colour(seed))
    return np.concatenate([pole, arm, head, glow])


def lamp_colour(seed: float) -> Rgb:
    """Returns the colour of a lamp: most are sodium, some are white."""
    return (1.0, 0.62, 0.28) if seed < 0.7 else (0.85, 0.92, 1.0)


def is_broken(seed: float) -> bool:
    """Returns whether a lamp stays dark, as one in eight does."""
    return seed * 97.0 % 1.0 < 0.125


def sign_mesh(kind: str) -> Mesh:
    pole = cylinder([0, 0, 0], [0, 0, 2.9], 0.035, 0.035, PLAIN, STEEL, 4)
    front = wall((0.05, -0.36), (0.05, 0.36), 2.15, 2.87, LAYER[kind])
    back = wall((0.04, 0.36), (0.04, -0.36), 2.15, 2.87, LAYER[kind], (0.35, 0.35, 0.36))
    return np.concatenate([pole, front, back])


def street_furniture(kind: str, seed: float) -> Mesh:
    """Makes a box (cabinet), bench, bin, post (letter box) or board (advertisement)."""
    if kind == "box":
        return box((-0.2, -0.6, 0), (0.2, 0.6, 1.2), PLAIN, (0.52, 0.55, 0.52))
    if kind == "bin":
        tint = ((0.15, 0.25, 0.5), (0.2, 0.2, 0.2), (0.65, 0.5, 0.1))[int(seed * 3)]
        return np.concatenate(
            [box((-0.3, y - 0.28, 0), (0.3, y + 0.28, 1.05), PLAIN, tint) for y in (-0.35, 0.35)]
        )
    if kind == "post":
        return box((-0.18, -0.25, 0.5), (0.18, 0.25, 1.4), PLAIN, (0.92, 0.72, 0.08))
    if kind == "bench":
        wood = (0.45, 0.3, 0.18)
        seat = box((-0.25, -0.8, 0.38), (0.25, 0.8, 0.46), PLAIN, wood)
        back = box((-0.3, -0.8, 0.5), (-0.24, 0.8, 0.95), PLAIN, wood)
        legs = [box((-0.2, y, 0), (0.2, y + 0.08, 0.38), PLAIN, STEEL) for y in (-0.7, 0.6)]
        return np.concatenate([seat, back, *legs])
    colour = np.random.default_rng(int(seed * 1e6)).uniform(0.15, 0.95, (3, 3))
    frame = box((-0.1, -0.75, 0.3), (0.1, 0.75, 2.3), PLAIN, STEEL)
    bands = []
    for x, sign in ((0.11, 1), (-0.11, -1)):
        for k, (low, high) in enumerate(((0.45, 1.0), (1.0, 1.7), (1.7, 2.15))):
            bands.append(
                wall((x, -0.65 * sign), (x, 0.65 * sign), low, high, PLAIN, _rgb(colour[k]))
            )
    return np.concatenate([frame, *bands])


def fence_mesh(kind: str, length: float, setback: float, seed: float) -> Mesh:
    """Makes a fence along y at x=0 with a gate of 1.4 m, and sides running back to the house."""
    gate = 0.7
    spans = [
        ((0.0, -length / 2), (0.0, -gate)),
        ((0.0, gate), (0.0, length / 2)),
        ((-setback, -length / 2), (0.0, -length / 2)),
    ]
    parts = [_fence_span(kind, np.array(a, float), np.array(b, float), seed) for a, b in spans]
    return np.concatenate(parts)


def _fence_span(kind: str, a: Points, b: Points, seed: float) -> Mesh:
    length = float(np.linalg.norm(b - a))
    if kind in ("picket", "iron"):
        tint = (0.95, 0.95, 0.93) if seed < 0.5 else (0.55, 0.42, 0.3)
        layer, height = LAYER[kind], 1.0 if kind == "picket" else 1.25
        return wall(a, b, 0.05, height, layer, tint, 0.0, (length / 1.2, 1.0))
    angle = float(np.arctan2(*(b - a)[::-1]))
    if kind == "hedge":
        height = 1.1 + 0.5 * seed
        body = box((0, -0.35, 0), (length, 0.35, height), LAYER["hedge"], (0.26, 0.38, 0.16))
    else:
        body = box((0, -0.12, 0), (length, 0.12, 0.8), LAYER["brick_blank"], (0.9, 0.85, 0.8))
    body[..., 6:8] /= 1.6
    return place(body, a, angle)


def car_mesh(rng: np.random.Generator) -> Mesh:
    """Makes a parked car: hatchback, saloon or van."""
    kind = int(rng.integers(3))
    tint = CAR_COLOURS[int(rng.integers(len(CAR_COLOURS)))]
    glass = (0.10, 0.12, 0.14)
    roof = (1.45, 1.42, 1.95)[kind]
    rear = (-1.95, -1.3, -2.2)[kind]
    belt = 0.9 if kind < 2 else 1.05
    body = [(-2.1, 0.3), (-2.15, 0.8), (-2.0, belt), (1.0, belt), (1.9, 0.74), (2.1, 0.3)]
    cabin = [(rear, belt), (rear + 0.35, roof), (0.2, roof), (1.05, belt)]
    half = 0.86
    parts = [prism(np.array(body), half, PLAIN, tint), prism(np.array(cabin), 0.74, PLAIN, glass)]
    lid = [
        (rear + 0.3, roof - 0.03),
        (rear + 0.36, roof + 0.04),
        (0.15, roof + 0.04),
        (0.25, roof - 0.03),
    ]
    parts.append(prism(np.array(lid), 0.75, PLAIN, tint))
    for y in (-half, half):
        parts += [_panel(body, y, tint), _panel([*cabin, cabin[-1], cabin[-1]], y * 0.86, glass)]
        side = np.sign(y) * (half + 0.02)
        for x in (-1.3, 1.3):
            parts.append(_wheel(x, side))
        pillar = wall((-0.32, y * 0.87), (-0.42, y * 0.87), belt, roof, PLAIN, tint)
        parts.append(pillar if y > 0 else pillar[:, [1, 0, 3, 2]])
    for y in (-0.6, 0.6):
        parts.append(box((2.0, y - 0.2, 0.55), (2.08, y + 0.2, 0.72), PLAIN, (0.9, 0.9, 0.85)))
        parts.append(box((-2.17, y - 0.18, 0.6), (-2.1, y + 0.18, 0.8), PLAIN, (0.6, 0.05, 0.05)))
    parts.append(box((-2.18, -0.26, 0.42), (-2.12, 0.26, 0.53), PLAIN))
    return np.concatenate(parts)


def _panel(profile: list[tuple[float, float]], y: float, tint: Rgb) -> Mesh:
    """Makes the flat side of a swept profile of six points."""
    p = [[x, y, z] for x, z in profile]
    mesh = quads([[p[0], p[5], p[4], p[3]], [p[0], p[3], p[2], p[1]]], PLAIN, tint)
    mesh[..., 3:6] = (0, np.sign(y), 0)
    return mesh


def _wheel(x: float, y: float) -> Mesh:
    angle = np.linspace(0, 2 * np.pi, 9)[:-1]
    rim = np.stack([x + 0.33 * np.cos(angle), np.full(8, y), 0.33 + 0.33 * np.sin(angle)], 1)
    faces = [[rim[0], rim[k], rim[k + 1], rim[k + 2]] for k in (1, 3, 5)]
    mesh = quads(faces, PLAIN, (0.05, 0.05, 0.05))
    mesh[..., 3:6] = (0, np.sign(y), 0)
    hub = mesh.copy()
    hub[..., :3] = (hub[..., :3] - [x, y, 0.33]) * 0.55 + [x, y + 0.02 * np.sign(y), 0.33]
    hub[..., 9:12] = 0.45
    return np.concatenate([mesh, hub])


def person_mesh(rng: np.random.Generator) -> Mesh:
    """Makes a walker about 1.7 m tall."""
    coat, trousers = rng.uniform(0.08, 0.75, 3), rng.uniform(0.06, 0.35, 3)
    stride = rng.uniform(0.1, 0.3)
    parts = []
    for side in (-1, 1):
        hip, foot = [0, 0.1 * side, 0.85], [stride * side, 0.1 * side, 0.0]
        parts.append(cylinder(foot, hip, 0.06, 0.09, PLAIN, _rgb(trousers), 5))
        hand = [-stride * side, 0.27 * side, 0.8]
        parts.append(cylinder(hand, [0, 0.22 * side, 1.4], 0.045, 0.06, PLAIN, _rgb(coat), 4))
    parts.append(cylinder([0, 0, 0.8], [0, 0, 1.45], 0.17, 0.21, PLAIN, _rgb(coat), 7))
    parts.append(cylinder([0, 0, 1.45], [0, 0, 1.52], 0.2, 0.06, PLAIN, _rgb(coat), 7))
    parts.append(cylinder([0, 0, 1.5], [0, 0, 1.66], 0.09, 0.11, PLAIN, (0.8, 0.6, 0.5), 6))
    hair = _rgb(rng.uniform(0.05, 0.4, 3))
    parts.append(cylinder([0, 0, 1.66], [0, 0, 1.76], 0.115, 0.04, PLAIN, hair, 6))
    return np.concatenate(parts)


def _rgb(colour: Points) -> Rgb:
    red, green, blue = colour.tolist()
    return red, green, blue
