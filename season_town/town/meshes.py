# SPDX-License-Identifier: Apache-2.0
"""Meshes of quads.

A mesh is float32 [Q, 4, 13] with the columns position 3 (metres), normal 3, texture coordinate 2,
texture layer 1, tint 3 (sRGB-like 0..1), seed 1. A triangle repeats a corner.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from season_town.arrays import Mesh, Points

WIDTH = 13
Rgb = tuple[float, float, float]
Point = Points | tuple[float, float]  # x and y
WHITE: Rgb = (1.0, 1.0, 1.0)


def quads(
    corners: ArrayLike,
    layer: float,
    tint: Rgb = WHITE,
    seed: float = 0.0,
    uv: Points | tuple[float, float] = (1.0, 1.0),
) -> Mesh:
    """Makes quads from corners [Q, 4, 3], counter-clockwise from outside and from bottom left.

    uv: texture repeats across and up, or the coordinates [Q, 4, 2] themselves.
    """
    rows = np.asarray(corners, dtype=np.float64).reshape(-1, 4, 3)
    mesh = np.zeros((len(rows), 4, WIDTH), np.float32)
    normal = _cross(rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    mesh[..., :3] = rows
    mesh[..., 3:6] = normal[:, None]
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    mesh[..., 6:8] = square * uv if isinstance(uv, tuple) else uv
    mesh[..., 8] = layer
    mesh[..., 9:12] = tint
    mesh[..., 12] = seed
    return mesh


def _cross(a: Points, b: Points) -> Points:
    """Cross products of [Q, 3], equal to np.cross to the bit but faster for few quads."""
    product = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        product[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return product


def wall(
    start: Point,
    end: Point,
    low: float,
    high: float,
    layer: float,
    tint: Rgb = WHITE,
    seed: float = 0.0,
    repeat: tuple[float, float] = (1.0, 1.0),
) -> Mesh:
    """Makes an upright quad from `start` to `end` (x y), with its outside to the right."""
    (x0, y0), (x1, y1) = start, end
    corners = [[x0, y0, low], [x1, y1, low], [x1, y1, high], [x0, y0, high]]
    return quads([corners], layer, tint, seed, repeat)


def box(
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    layer: float,
    tint: Rgb = WHITE,
    seed: float = 0.0,
) -> Mesh:
    """Makes an axis-aligned box without a bottom; texture repeats once a metre."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    sides = []
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        length = abs(b[0] - a[0]) + abs(b[1] - a[1])
        sides.append(wall(a, b, z0, z1, layer, tint, seed, (length, z1 - z0)))
    top = [[x0, y0, z1], [x1, y0, z1], [x1, y1, z1], [x0, y1, z1]]
    return np.concatenate([*sides, quads([top], layer, tint, seed, (x1 - x0, y1 - y0))])


def cylinder(
    foot: ArrayLike,
    tip: ArrayLike,
    radius_low: float,
    radius_high: float,
    layer: float,
    tint: Rgb = WHITE,
    sides: int = 6,
) -> Mesh:
    """Makes a tapered open tube between two points [3]."""
    low, high = np.asarray(foot, float), np.asarray(tip, float)
    axis = (high - low) / np.linalg.norm(high - low)
    helper = np.array([1.0, 0, 0]) if abs(axis[2]) > 0.8 else np.array([0, 0, 1.0])
    u = np.cross(helper, axis)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angle = np.arange(sides + 1) * 2 * np.pi / sides
    ring = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    a, b = low + radius_low * ring, high + radius_high * ring
    mesh = quads(np.stack([a[:-1], a[1:], b[1:], b[:-1]], 1), layer, tint)
    mesh[:, [0, 3], 3:6] = ring[:-1, None]
    mesh[:, [1, 2], 3:6] = ring[1:, None]
    return mesh


def prism(
    profile: ArrayLike, half_width: float, layer: float, tint: Rgb = WHITE, seed: float = 0.0
) -> Mesh:
    """Sweeps a profile [N, 2] (x, z; clockwise seen from the right) from -y to +y."""
    a = np.insert(np.asarray(profile, float), 1, -half_width, axis=1)
    b = a * [1, -1, 1]
    after = np.roll(np.arange(len(a)), -1)
    return quads(np.stack([a, a[after], b[after], b], 1), layer, tint, seed)


def place(mesh: Mesh, position: Points, yaw: float, scale: float = 1.0) -> Mesh:
    """Returns a copy scaled, turned by yaw (radians) and moved to position [2] or [3]."""
    out = mesh.copy()
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
    out[..., :3] = (mesh[..., :3] * scale) @ turn
    out[..., :3] += np.resize(np.append(position, 0.0), 3).astype(np.float32)
    out[..., 3:6] = mesh[..., 3:6] @ turn
    return out
