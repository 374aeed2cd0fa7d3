# SPDX-License-Identifier: Apache-2.0
"""WGS 84: geodetic coordinates and local tangent planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.errors import PriorError

EQUATOR = 6378137.0  # WGS 84, metres

ECCENTRICITY_SQUARED = 6.69437999014e-3


@dataclass(frozen=True)
class Origin:
    """Where a map lies on Earth: latitude and longitude (degrees) of its frame's origin.

    yaw: radians, counter-clockwise from east to the map's x axis; 0: x is east and y is north, the
    ENU frame of the origin. Raises PriorError unless it is a place on Earth.
    """

    latitude: float
    longitude: float
    yaw: float = 0.0

    def __post_init__(self) -> None:
        _check_place(self.latitude, self.longitude, "the map's origin")
        if not np.isfinite(self.yaw):
            raise PriorError(f"the yaw of the map's origin expects radians, got {self.yaw}")


def _check_place(latitude: float, longitude: float, what: str) -> None:
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # false with nan
        raise PriorError(
            f"{what} expects latitude and longitude in degrees, got {latitude}, {longitude}"
        )


def _ecef(latitude: float, longitude: float) -> np.ndarray:
    """Earth-centred coordinates [3] (metres) of a point on the WGS 84 ellipsoid."""
    lat, lon = np.radians([latitude, longitude])
    radius = EQUATOR / np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(lat) ** 2)
    flat = radius * np.cos(lat)
    height = radius * (1 - ECCENTRICITY_SQUARED) * np.sin(lat)
    return np.array([flat * np.cos(lon), flat * np.sin(lon), height])
