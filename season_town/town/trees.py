# SPDX-License-Identifier: Apache-2.0
"""Trees and bushes under every foliage. They stand at the origin; height about 8 m at scale 1."""

from __future__ import annotations

import numpy as np

from season_town.arrays import Mesh, Points
from season_town.textures.textures import LAYER
from season_town.town.meshes import Rgb, cylinder, quads

BARK: Rgb = (0.42, 0.33, 0.27)
LEAVES: dict[str, tuple[Rgb, ...]] = {
    "green": ((0.30, 0.46, 0.16), (0.36, 0.52, 0.20), (0.25, 0.41, 0.17)),
    "fresh": ((0.56, 0.72, 0.26), (0.50, 0.66, 0.28), (0.92, 0.80, 0.84)),
    "autumn": ((0.86, 0.52, 0.12), (0.72, 0.30, 0.10), (0.84, 0.68, 0.18)),
    "bare": ((0.36, 0.30, 0.26),) * 3,
}


def tree_mesh(kind: str, foliage: str, seed: float) -> Mesh:
    """Makes a plant. kind: tree, poplar, conifer or bush."""
    rng = np.random.default_rng(int(seed * 1e9))
    tint = LEAVES[foliage][int(seed * 3) % 3]
    if kind == "conifer":
        return _conifer(rng)
    if kind == "bush":
        if foliage == "bare":
            return _bare_crown(rng, 1.6, 0.0, 0.9)
        return _crown(rng, np.array([0, 0, 0.8]), np.array([0.8, 0.8, 0.7]), 9, 0.75, tint)
    size = np.array([2.3, 2.3, 2.5]) if kind == "tree" else np.array([1.1, 1.1, 4.3])
    middle = np.array([0, 0, 5.4 if kind == "tree" else 5.8])
    trunk = _trunk(rng, middle[2])
    if foliage == "bare":
        width = 3.0 if kind == "tree" else 1.4
        return np.concatenate([trunk, _bare_crown(rng, 6.6, 2.0, width)])
    count = 34 if kind == "tree" else 30
    if foliage == "autumn":
        count -= 10
    return np.concatenate([trunk, _crown(rng, middle, size, count, 1.25, tint)])


def _trunk(rng: np.random.Generator, height: float) -> Mesh:
    lean = np.array([*rng.normal(0, 0.15, 2), height])
    parts = [cylinder(np.zeros(3), lean, 0.2, 0.09, LAYER["bark"], BARK)]
    for _ in range(3):
        angle = rng.uniform(0, 2 * np.pi)
        start = lean * rng.uniform(0.4, 0.65)
        end = start + np.array([1.2 * np.cos(angle), 1.2 * np.sin(angle), 1.5])
        parts.append(cylinder(start, end, 0.08, 0.03, LAYER["bark"], BARK, 3))
    return np.concatenate(parts)


def _crown(
    rng: np.random.Generator,
    middle: Points,
    size: Points,
    count: int,
    half: float,
    tint: Rgb,
) -> Mesh:
    """Clumps of leaves in an ellipsoid, shaded as if they were its surface."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centre = middle + direction * size * rng.uniform(0.55, 0.95, (count, 1))
    facing = direction + 0.9 * rng.standard_normal((count, 3))
    u = np.cross(facing, rng.standard_normal((count, 3)))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(facing, u)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    reach = half * rng.uniform(0.8, 1.2, (count, 1))
    u, v = u * reach, v * reach
    corners = np.stack([centre - u - v, centre + u - v, centre + u + v, centre - u + v], 1)
    mesh = quads(corners, LAYER["leaf"], tint)
    outward = (corners - middle) / size
    outward[..., 2] += 0.25
    mesh[..., 3:6] = outward / np.linalg.norm(outward, axis=2, keepdims=True)
    shade = np.clip(0.78 + 0.16 * (corners[..., 2] - middle[2]) / size[2], 0.5, 1.1)
    mesh[..., 9:12] *= (shade * rng.uniform(0.8, 1.15, (count, 1)))[..., None]
    return mesh


def _bare_crown(rng: np.random.Generator, height: float, low: float, half: float) -> Mesh:
    """Pictures of leafless branches crossing in the trunk."""
    parts = []
    for angle in np.arange(3) * np.pi / 3 + rng.uniform(0, np.pi):
        reach = half * np.array([np.cos(angle), np.sin(angle), 0])
        foot = np.array([0, 0, low])
        a, b = foot - reach, foot + reach
        up = np.array([0, 0, height])
        parts.append(quads([[a, b, b + up, a + up]], LAYER["branch"], LEAVES["bare"][0]))
    mesh = np.concatenate(parts)
    mesh[..., 3:6] = (0, 0, 0.6)
    return mesh


def _conifer(rng: np.random.Generator) -> Mesh:
    parts = [cylinder([0, 0, 0], [0, 0, 2], 0.16, 0.12, LAYER["bark"], BARK)]
    shade = rng.uniform(0.8, 1.2)
    tint = (0.16 * shade, 0.30 * shade, 0.17 * shade)
    for low in (0.7, 2.0, 3.3, 4.6, 5.8):
        radius = 2.2 * (1 - low / 8.2)
        angle = np.linspace(0, 2 * np.pi, 9) + low
        ring = np.stack([np.cos(angle), np.sin(angle)], 1)
        base = np.column_stack([ring * radius, np.full(9, low)])
        tip = np.column_stack([ring * 0.12, np.full(9, low + 2.3)])
        mesh = quads(np.stack([base[:-1], base[1:], tip[1:], tip[:-1]], 1), LAYER["needle"], tint)
        parts.append(mesh)
    return np.concatenate(parts)
