# SPDX-License-Identifier: Apache-2.0
"""Builds the season town: the same seed gives the same town for every condition and drive."""

from __future__ import annotations

import numpy as np

from season_town.town.layout import Town
from season_town.town.lots import line_street
from season_town.town.planting import fill_gardens, fill_park, surround
from season_town.town.streets import (
    GRID,
    cell_corners,
    choose_streets,
    lane_centre,
    place_nodes,
    turned_loop,
)


def build_town(seed: int) -> Town:
    """Builds the town of a seed."""
    rng = np.random.default_rng([seed, 101])
    town = Town(seed, place_nodes(rng))
    loop = turned_loop(rng)
    town.streets = choose_streets(rng, town.nodes, loop)
    town.route = lane_centre(np.array([town.nodes[i, j] for i, j in loop]))
    i, j = rng.integers(0, GRID - 1, 2)
    park = int(i), int(j)
    for street in town.streets:
        line_street(rng, town, street, cell_corners(town.nodes, park))
    fill_park(rng, town, cell_corners(town.nodes, park))
    fill_gardens(rng, town)
    surround(rng, town)
    return town
