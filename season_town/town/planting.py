# SPDX-License-Identifier: Apache-2.0
"""Trees and bushes: in the park, in gardens and around the town."""

from __future__ import annotations

import numpy as np

from season_town.arrays import Points
from season_town.town.houses import HOUSE_TYPES
from season_town.town.layout import Prop, Town, covers, distance_to_segment, footprint
from season_town.town.streets import SIDEWALK_OUTER


def fill_park(rng: np.random.Generator, town: Town, park: Points) -> None:
    """Plants the park."""
    _scatter(rng, town, park.min(0), park.max(0), 45)


def fill_gardens(rng: np.random.Generator, town: Town) -> None:
    """Plants the gardens."""
    low, high = town.nodes.min((0, 1)) - 22, town.nodes.max((0, 1)) + 22
    _scatter(rng, town, low, high, 320)
    for house in town.houses:
        if house.setback > 2.5 and rng.random() < 0.7:
            left = np.array([-np.sin(house.yaw), np.cos(house.yaw)])
            forward = np.array([np.cos(house.yaw), np.sin(house.yaw)])
            across = rng.choice([-0.36, 0.36]) * HOUSE_TYPES[house.kind].width
            kind = str(rng.choice(["bush", "bush", "tree", "conifer"]))
            scale = float(rng.uniform(0.35, 0.5)) if kind != "bush" else float(rng.uniform(0.7, 1))
            position = house.position + 1.6 * forward + across * left
            town.props.append(Prop(kind, position, 0.0, scale, float(rng.random())))


def surround(rng: np.random.Generator, town: Town) -> None:
    """Plants a belt of trees so that no street ends in an empty horizon."""
    for angle in np.arange(0, 2 * np.pi, 2 * np.pi / 110):
        radius = rng.uniform(128, 165)
        point = radius * np.array([np.cos(angle), np.sin(angle)])
        kind = str(rng.choice(["tree", "tree", "conifer", "poplar"]))
        scale = float(rng.uniform(1.0, 1.5))
        town.props.append(Prop(kind, point, 0.0, scale, float(rng.random())))


def _scatter(rng: np.random.Generator, town: Town, low: Points, high: Points, count: int) -> None:
    kinds = ["tree", "tree", "tree", "conifer", "poplar", "bush"]
    for _ in range(count):
        point = rng.uniform(low, high)
        kind, scale, seed = str(rng.choice(kinds)), float(rng.uniform(0.7, 1.15)), rng.random()
        if _free(town, point, 3.0):
            town.props.append(Prop(kind, point, 0.0, scale, float(seed)))


def _free(town: Town, point: Points, clearance: float) -> bool:
    """Returns whether a tree may stand at a point [2]."""
    for a, b in town.streets:
        if distance_to_segment(point[None], a, b) < SIDEWALK_OUTER + 0.5 + clearance * 0.4:
            return False
    for house in town.houses:
        if np.linalg.norm(house.position - point) < 22:
            gap = np.linalg.norm(footprint(house) - point, axis=1).min()
            if gap < clearance or covers(house, point[None]):
                return False
    return True
