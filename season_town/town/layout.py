# SPDX-License-Identifier: Apache-2.0
"""Objects of the town and their positions. Metres, map frame (ENU)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from season_town.arrays import Points
from season_town.town.houses import HOUSE_TYPES


@dataclass(frozen=True)
class House:
    """A house on its lot."""

    position: Points  # [2], middle of the front
    yaw: float  # direction the front faces
    kind: int  # row of HOUSE_TYPES
    tint: int  # row of TINTS
    roof: int  # row of ROOFS
    fence: str  # one of FENCES
    setback: float  # metres from the front to the sidewalk
    lot: float  # metres of street front
    seed: float  # in 0..1, of small variations


@dataclass(frozen=True)
class Prop:
    """A tree, lamp, sign, parking slot or other small thing."""

    kind: str  # see town/scene.py
    position: Points  # [2]
    yaw: float = 0.0  # direction that it faces
    scale: float = 1.0
    seed: float = 0.0  # in 0..1, of small variations


def footprint(house: House) -> Points:
    """Returns corners and inner points of the ground that a house covers, [9, 2]."""
    kind = HOUSE_TYPES[house.kind]
    forward = np.array([np.cos(house.yaw), np.sin(house.yaw)])
    left = np.array([-forward[1], forward[0]])
    across = np.array([-0.5, 0.0, 0.5]) * kind.width
    back = np.array([0.0, 0.5, 1.0]) * kind.depth
    return np.array([house.position + x * left - y * forward for x in across for y in back])


def covers(house: House, points: Points) -> bool:
    """Returns whether a house covers any of `points` [N, 2]."""
    corners = footprint(house)[[0, 2, 8, 6]]
    return any(inside(corners, p) for p in points)


def inside(polygon: Points, point: Points) -> bool:
    """Returns whether a convex polygon [N, 2] contains a point [2]."""
    edge = np.roll(polygon, -1, 0) - polygon
    to = point - polygon
    side = edge[:, 0] * to[:, 1] - edge[:, 1] * to[:, 0]
    return bool((side > 0).all() or (side < 0).all())


def distance_to_segment(points: Points, a: Points, b: Points) -> float:
    """Returns the metres from the nearest of `points` [N, 2] to the segment from a to b."""
    share = np.clip((points - a) @ (b - a) / np.dot(b - a, b - a), 0, 1)
    away = points - a - share[:, None] * (b - a)
    return float(np.sqrt((away**2).sum(1).min()))


@dataclass
class Town:
    """The objects of a town and the route through it; see `build_town`."""

    seed: int
    nodes: Points  # of the street network, [GRID, GRID, 2]
    streets: list[tuple[Points, Points]] = field(default_factory=list)  # their ends [2]
    houses: list[House] = field(default_factory=list)
    props: list[Prop] = field(default_factory=list)
    route: Points = field(default_factory=lambda: np.zeros((0, 2)))  # lane centre, every 0.25 m
