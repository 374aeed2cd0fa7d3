# SPDX-License-Identifier: Apache-2.0
"""Routes: positions and headings of images, radius search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from training.data.sources import Photo
from training.errors import TrainingError

UNKNOWN = -1  # route of an image without a pose
LEVEL = 0.1  # horizontal share of a heading's axis below which it has no yaw


def wrapped(angle: NDArray[Any]) -> NDArray[Any]:
    """Wraps angles [rad] into [−π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


class Routes:
    """Positions of photos. `rows` are numbers of photos; without a place they have no neighbours.

    Raises TrainingError for a posed photo whose optical axis points straight up or down: it has no
    yaw, as positions without an orientation do.
    """

    names: list[str]  # of the routes
    route: NDArray[Any]  # number of the route, int [N]; UNKNOWN without a place
    position: NDArray[Any]  # in the route's map frame [N, 3] [m]
    yaw: NDArray[Any]  # of the optical axis about the map's z axis [N] [rad]

    def __init__(self, photos: Sequence[Photo]) -> None:
        names = list(dict.fromkeys(p.group for p in photos if p.group and not p.tiled))
        numbers = {name: k for k, name in enumerate(names)}
        self.names = names
        self.route = np.array([UNKNOWN if p.tiled else numbers.get(p.group, -1) for p in photos])
        self.position = np.array([p.position for p in photos], dtype=np.float64).reshape(-1, 3)
        axis = np.array([p.axis for p in photos], dtype=np.float64).reshape(-1, 3)
        steep = (np.linalg.norm(axis[:, :2], axis=1) < LEVEL) & (self.route != UNKNOWN)
        if steep.any():
            first = photos[int(steep.argmax())]
            raise TrainingError(
                f"{steep.sum()} posed images have no yaw: their optical axis points straight up or "
                f"down, first {first.path}. Near places need position and heading: give "
                f"poses with an orientation (map_from_camera of the optical frame)"
            )
        self.yaw = np.arctan2(axis[:, 1], axis[:, 0])
        self._trees = {}
        for number in range(len(names)):
            rows = np.flatnonzero(self.route == number)
            self._trees[number] = (rows, cKDTree(self.position[rows]))

    def posed(self, rows: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        """Selects the rows whose place is known."""
        rows = np.asarray(rows, dtype=int)
        result: NDArray[Any] = rows[self.route[rows] != UNKNOWN]
        return result

    def within(self, row: int, radius: float) -> NDArray[Any]:
        """Finds rows of the same route at most `radius` metres away, sorted, itself among them."""
        if self.route[row] == UNKNOWN:
            return np.zeros(0, dtype=int)
        rows, tree = self._trees[int(self.route[row])]
        return rows[sorted(tree.query_ball_point(self.position[row], radius))]

    def near(self, row: int, radius: float, angle: float) -> NDArray[Any]:
        """Finds other images of the same place: rows, sorted.

        They are at most `radius` metres away and turned by at most `angle` degrees.
        """
        rows = self.within(row, radius)
        turn = np.abs(wrapped(self.yaw[rows] - self.yaw[row]))
        result: NDArray[Any] = rows[(turn <= np.radians(angle) + 1e-9) & (rows != row)]
        return result

    def metres(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """Measures distances [..., A, B] between rows a [..., A] and b [..., B] [m].

        They are infinite between routes and where a place is unknown, 0 from an image to itself.
        """
        a, b = np.asarray(a)[..., :, None], np.asarray(b)[..., None, :]
        gaps = np.linalg.norm(self.position[a] - self.position[b], axis=-1)
        apart = (self.route[a] != self.route[b]) | (self.route[a] == UNKNOWN)
        return np.where(apart & (a != b), np.inf, gaps)

    def describe(self, row: int) -> str:
        """Names route and position of a row, for people."""
        x, y, _ = self.position[row]
        return f"x {x:.0f} y {y:.0f} m of {self.names[self.route[row]]}"


def thinned(
    routes: Routes, rows: NDArray[Any], spacing: float, angle: float, random: np.random.Generator
) -> NDArray[Any]:
    """Chooses rows at random, as many as possible so that no two are near; in random order.

    Near: less than `spacing` metres away and turned by at most `angle` degrees. Spacing 0: all.
    """
    ordered = random.permutation(rows)
    if spacing <= 0:
        return ordered
    left = set(ordered.tolist())
    chosen = []
    for row in ordered.tolist():
        if row in left:
            chosen.append(row)
            left.difference_update(routes.near(row, spacing * (1 - 1e-9), angle).tolist())
    return np.array(chosen, dtype=int)
