# SPDX-License-Identifier: Apache-2.0
"""Fills both sides of a street: houses, lamps, parking slots, trees, signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from season_town.arrays import Points
from season_town.town.houses import HOUSE_TYPES
from season_town.town.layout import (
    House,
    Prop,
    Town,
    covers,
    distance_to_segment,
    footprint,
    inside,
)
from season_town.town.streets import SIDEWALK_OUTER, unit

FENCES = ("picket", "iron", "hedge", "wall", "none")


def line_street(
    rng: np.random.Generator,
    town: Town,
    street: tuple[Points, Points],
    park: Points,
) -> None:
    """Places houses, lamps, parking slots and perhaps an alley of trees along one street."""
    a, b = street
    length = float(np.linalg.norm(b - a))
    along = unit(b - a)
    main_kind = int(rng.choice(_common_kinds(town.seed)))
    style = (int(rng.integers(3)), int(rng.integers(2)), str(rng.choice(FENCES)))
    alley = str(rng.choice(["tree", "tree", "tree", "none", "none", "poplar"]))
    for side in (1.0, -1.0):
        out = side * np.array([-along[1], along[0]])
        facing = float(np.arctan2(-out[1], -out[0]))
        _house_row(rng, town, (a, along, out, length), (main_kind, *style), park)
        for t in np.arange(14.0 + 12.0 * (side > 0), length - 9, 25.0):
            position = a + t * along + 4.7 * out
            town.props.append(Prop("lamp", position, facing, 1.0, float(rng.random())))
        for t in np.arange(13.0, length - 12, 6.3):
            yaw = float(np.arctan2(along[1], along[0])) + (np.pi if side > 0 else 0.0)
            town.props.append(Prop("slot", a + t * along + 4.35 * out, yaw, 1, float(rng.random())))
        if alley != "none":
            for t in np.arange(16.5, length - 12, 10.0):
                position = a + (t + rng.uniform(-0.6, 0.6)) * along + 5.9 * out
                scale = float(rng.uniform(0.65, 0.95))
                town.props.append(Prop(alley, position, 0.0, scale, float(rng.random())))
        kind = f"sign_{rng.choice(list('abcd'))}"
        near = a + 11.5 * along if side > 0 else b - 11.5 * along
        yaw = float(np.arctan2(*(-side * along)[::-1])) + np.pi
        town.props.append(Prop(kind, near + 4.9 * out, yaw, 1.0, float(rng.random())))
        extra = str(rng.choice(["box", "bench", "bin", "post", "board"]))
        position = a + rng.uniform(14, length - 14) * along + 6.0 * out
        town.props.append(Prop(extra, position, facing, 1.0, float(rng.random())))


def _common_kinds(seed: int) -> NDArray[np.int64]:
    """Draws the few house types that fill this town's streets."""
    rng = np.random.default_rng([seed, 103])
    kinds: NDArray[np.int64] = rng.choice(len(HOUSE_TYPES), 4, replace=False)
    return kinds


def _house_row(
    rng: np.random.Generator,
    town: Town,
    line: tuple[Points, Points, Points, float],
    style: tuple[int, int, int, str],
    park: Points,
) -> None:
    """Places mostly one type of house along one side of a street: perceptual aliasing."""
    a, along, out, length = line
    main_kind, tint, roof, fence = style
    yaw = float(np.arctan2(-out[1], -out[0]))
    t = 11.0 + rng.uniform(0, 3)
    while True:
        kind = main_kind if rng.random() < 0.85 else int(rng.integers(len(HOUSE_TYPES)))
        width = HOUSE_TYPES[kind].width
        gap = rng.uniform(2.4, 4.0)
        if t + width > length - 10.0:
            return
        setback = HOUSE_TYPES[kind].setback + rng.uniform(0, 0.8)
        front = a + (t + width / 2) * along + (SIDEWALK_OUTER + setback) * out
        house = House(
            front,
            yaw,
            kind,
            tint if rng.random() < 0.75 else int(rng.integers(6)),
            roof if rng.random() < 0.8 else int(rng.integers(4)),
            fence if rng.random() < 0.75 else str(rng.choice(FENCES)),
            setback,
            width + gap * 0.9,
            float(rng.random()),
        )
        if _fits(town, house, park):
            town.houses.append(house)
            t += width + gap
        else:
            t += 1.5


def _fits(town: Town, house: House, park: Points) -> bool:
    """Returns whether a house keeps its distance from streets, park and other houses."""
    points = footprint(house)
    if any(inside(park, p) for p in points):
        return False
    for a, b in town.streets:
        if distance_to_segment(points, a, b) < SIDEWALK_OUTER + 0.8:
            return False
    for other in town.houses:
        if np.linalg.norm(other.position - house.position) < 30:
            gap = np.linalg.norm(footprint(other)[:, None] - points[None], axis=2)
            if gap.min() < 2.4 or covers(other, points) or covers(house, footprint(other)):
                return False
    return True
