# SPDX-License-Identifier: Apache-2.0
"""Place of a map on Earth: 2-D rigid registration of satellite fixes to poses (Umeyama, 1991)."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.geodesy import Origin
from disam_ros.localization.prior import FARTHEST

LEAST_EXTENT = 10.0  # standard deviation of positions from which the axes are determined [m]
UNKNOWN_DEVIATION = 10.0  # of a fix without covariance, 1 σ [m]


@dataclass(frozen=True)
class Registration:
    """The map frame registered to the Earth."""

    origin: Origin  # of the map frame, with the yaw of its x axis
    axes: bool  # whether that yaw was measured; if not, the axes are taken as east and north
    deviation: float  # root mean square residual of a fix [m]


class MapPlace:
    """Collects pairs of a fix and the vehicle's position in the map, in constant memory.

    May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start: Origin | None = None
        self._weight = 0.0
        self._sums: NDArray[np.float64] = np.zeros(4)  # of x, y on the map, and of east, north [m]
        self._squares: NDArray[np.float64] = np.zeros((4, 4))
        self.count = 0

    def add(
        self,
        latitude: float,
        longitude: float,
        position: NDArray[np.float64],
        variance: float = UNKNOWN_DEVIATION**2,
    ) -> None:
        """Add a fix [deg] with its variance [m²], and map_from_base's position [≥ 2] then [m]."""
        self._start = self._start or Origin(latitude, longitude)
        enu = self._start.to_enu(latitude, longitude)
        row = np.concatenate([np.asarray(position, np.float64)[:2], enu[:2]])
        weight = 1.0 / max(variance, 1e-4)
        with self._lock:
            self._weight += weight
            self._sums = self._sums + weight * row
            self._squares = self._squares + weight * np.outer(row, row)
            self.count += 1

    def register(self) -> Registration | None:
        """The least-squares estimate; None without a fix, or where the map's origin lies more than
        100 km away: its coordinates are then no metres from a place."""
        with self._lock:
            start, weight = self._start, self._weight
            sums, squares = self._sums, self._squares
        if start is None or not weight:
            return None
        mean = sums / weight
        moments = squares / weight - np.outer(mean, mean)
        axes = bool(np.trace(moments[:2, :2]) >= LEAST_EXTENT**2)
        yaw = 0.0
        if axes:
            cross = moments[2:, :2]  # of east, north by x, y
            yaw = float(np.arctan2(cross[1, 0] - cross[0, 1], np.trace(cross)))
        turn = Origin(start.latitude, start.longitude, yaw).enu_from_map
        east_north = mean[2:] - turn @ mean[:2]
        if np.linalg.norm(east_north) > FARTHEST:
            return None
        both = np.hstack([-turn, np.eye(2)])  # residual of a pair, without its mean
        residual = float(np.trace(both @ moments @ both.T))
        latitude, longitude = start.to_geodetic(east_north)
        return Registration(Origin(latitude, longitude, yaw), axes, max(residual, 0.0) ** 0.5)
