# SPDX-License-Identifier: Apache-2.0
"""The season town. The same seed gives the same town under every condition and for every drive."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from disam_ros.synthetic.layout import House, Prop
from disam_ros.synthetic.lots import line_street
from disam_ros.synthetic.planting import fill_gardens, fill_park, surround
from disam_ros.synthetic.streets import (
    GRID,
    cell_corners,
    choose_streets,
    lane_centre,
    place_nodes,
    turned_loop,
)


@dataclass
class Town:
    """Use `Town.from_seed`."""

    seed: int
    nodes: np.ndarray  # [GRID, GRID, 2]
    streets: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    houses: list[House] = field(default_factory=list)
    props: list[Prop] = field(default_factory=list)
    route: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # lane centre, every 0.25 m

    @classmethod
    def from_seed(cls, seed: int) -> Town:
        rng = np.random.default_rng([seed, 101])
        town = cls(seed, place_nodes(rng))
        loop = turned_loop(rng)
        town.streets = choose_streets(rng, town.nodes, loop)
        town.route = lane_centre(np.array([town.nodes[i, j] for i, j in loop]))
        park = tuple(rng.integers(0, GRID - 1, 2))
        for street in town.streets:
            line_street(rng, town, street, cell_corners(town.nodes, park))
        fill_park(rng, town, cell_corners(town.nodes, park))
        fill_gardens(rng, town)
        surround(rng, town)
        return town

    @property
    def lamps(self) -> np.ndarray:
        """Feet of the street lamps, [L, 3]."""
        feet = [[*prop.position, 0.0] for prop in self.props if prop.kind == "lamp"]
        return np.array(feet).reshape(-1, 3)
