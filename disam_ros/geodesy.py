# SPDX-License-Identifier: Apache-2.0
"""WGS 84 (through pymap3d): geodetic coordinates and the local tangent plane of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymap3d
from numpy.typing import NDArray
from pymap3d import rcurve

from disam_ros.errors import PriorError


@dataclass(frozen=True)
class Origin:
    """Geodetic position of a map frame's origin: latitude and longitude [deg].

    yaw: from east to the map's x axis, counter-clockwise [rad]; 0: the map is the ENU frame of the
    origin (x east, y north). Raises PriorError unless it is a place on Earth.
    """

    latitude: float
    longitude: float
    yaw: float = 0.0

    def __post_init__(self) -> None:
        require_place(self.latitude, self.longitude, "the map's origin")
        if not np.isfinite(self.yaw):
            raise PriorError(f"the yaw of the map's origin expects radians, got {self.yaw}")

    @property
    def enu_from_map(self) -> NDArray[np.float64]:
        """Rotation [2, 2] from the map's axes to east and north."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, -s], [s, c]])

    def to_geodetic(self, position: NDArray[np.float64]) -> tuple[float, float]:
        """Latitude and longitude [deg] of a position x y … [m] in the map frame."""
        east, north = self.enu_from_map @ position[:2]
        here = (self.latitude, self.longitude, 0.0)
        latitude, longitude, _ = pymap3d.enu2geodetic(east, north, 0.0, *here)
        return float(latitude), float(longitude)

    def to_enu(self, latitude: float, longitude: float) -> NDArray[np.float64]:
        """East, north, up float64 [3] [m] of a point [deg] on the ellipsoid, seen from the origin.

        Up is negative: the Earth falls away from the plane that touches it at the origin.
        """
        here = (self.latitude, self.longitude, 0.0)
        return np.array(pymap3d.geodetic2enu(latitude, longitude, 0.0, *here), dtype=np.float64)


def require_place(latitude: float, longitude: float, what: str) -> None:
    """Raise PriorError, naming `what`, unless it is a place on Earth [deg]."""
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # false with nan
        raise PriorError(
            f"{what} expects latitude and longitude in degrees, got {latitude}, {longitude}"
        )


def metres_per_degree(latitude: float) -> tuple[float, float]:
    """Length of a degree of latitude and of one of longitude [m] at a latitude [deg]."""
    return np.radians(rcurve.meridian(latitude)), np.radians(rcurve.parallel(latitude))
