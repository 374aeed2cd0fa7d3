# SPDX-License-Identifier: Apache-2.0
"""WGS 84 (through pymap3d): geodetic coordinates and the local tangent plane of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import DisamError, PriorError

EQUATOR, FLATTENING = 6_378_137.0, 1 / 298.257223563  # of WGS 84: semi-major axis [m]


@dataclass(frozen=True)
class Origin:
    """Geodetic position of a map frame's origin. Raises PriorError unless it is on Earth."""

    latitude: float  # [deg]
    longitude: float  # [deg]
    yaw: float = 0.0  # from east to the map's x axis, counter-clockwise [rad]

    def __post_init__(self) -> None:
        require_place(self.latitude, self.longitude, "the map's origin")
        if not np.isfinite(self.yaw):
            raise PriorError(f"the yaw of the map's origin expects radians, got {self.yaw}")

    @property
    def enu_from_map(self) -> NDArray[np.float64]:
        """Rotation [2, 2] from the map's axes to east and north."""
        return turn(self.yaw)

    def to_geodetic(self, position: NDArray[np.float64]) -> tuple[float, float]:
        """Latitude and longitude [deg] of a position x y … [m] in the map frame."""
        from pymap3d import enu2geodetic

        east, north = self.enu_from_map @ position[:2]
        base = (self.latitude, self.longitude, 0.0)
        latitude, longitude, _ = enu2geodetic(east, north, 0.0, *base)
        return float(latitude), float(longitude)

    def to_enu(
        self, latitude: float | NDArray[np.float64], longitude: float | NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """East, north, up [..., 3] [m] of points [deg] on the ellipsoid, seen from the origin.

        Up is negative: the Earth falls away from the plane that touches it at the origin.
        """
        from pymap3d import geodetic2enu

        base = (self.latitude, self.longitude, 0.0)
        return np.stack(geodetic2enu(latitude, longitude, 0.0, *base), axis=-1)

    def to_map(
        self, degrees: NDArray[np.float64], heights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Positions in the map frame [N, 3] [m] of latitudes and longitudes [N, 2] [deg].

        heights: [N] [m] above the ellipsoid, of which the first is at 0 in the map.
        """
        from pymap3d import geodetic2enu

        base = (self.latitude, self.longitude, heights[0])
        points = np.stack(geodetic2enu(*degrees.T, heights, *base), axis=-1)
        points[:, :2] = points[:, :2] @ self.enu_from_map
        return points


def turn(yaw: float) -> NDArray[np.float64]:
    """Rotation [2, 2] by an angle [rad], counter-clockwise."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s], [s, c]])


def require_place(
    latitude: float | None,
    longitude: float | None,
    what: str,
    error: type[DisamError] = PriorError,
) -> None:
    """Raise `error`, naming `what`, unless it is a place on Earth [deg]; None: unknown."""
    if not (abs(latitude or 0.0) <= 90 and abs(longitude or 0.0) <= 180):  # false with nan
        raise error(
            f"{what} expects latitude and longitude in degrees, got {latitude}, {longitude}"
        )


def metres_per_degree(latitude: float) -> tuple[float, float]:
    """Length of a degree of latitude and of one of longitude [m] at a latitude [deg]."""
    from pymap3d import rcurve

    return np.radians(rcurve.meridian(latitude)), np.radians(rcurve.parallel(latitude))


def to_utm(latitude: float, longitude: float, zone: int | None = None) -> tuple[float, float, int]:
    """UTM east and north [m] and zone of a place [deg] on WGS 84, by Krüger's series to n³.

    zone: None: that of the place, without the exceptions of Norway and Svalbard. South of the
    equator north is counted from 10 000 km. Accurate to 1 mm within 6° of the zone's meridian.
    Raises PriorError.
    """
    require_place(latitude, longitude, "UTM")
    if zone is None:
        zone = int((longitude + 180.0) % 360.0 // 6) + 1
    n = FLATTENING / (2.0 - FLATTENING)
    radius = EQUATOR / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    series = (
        n / 2 - 2 * n**2 / 3 + 5 * n**3 / 16,
        13 * n**2 / 48 - 3 * n**3 / 5,
        61 * n**3 / 240,
    )
    sine, meridian = np.sin(np.radians(latitude)), 6.0 * zone - 183.0
    away = np.radians((longitude - meridian + 180.0) % 360.0 - 180.0)
    k = 2 * np.sqrt(n) / (1 + n)
    t = np.sinh(np.arctanh(sine) - k * np.arctanh(k * sine))
    xi, eta = np.arctan2(t, np.cos(away)), np.arctanh(np.sin(away) / np.hypot(1.0, t))
    east, north = eta, xi
    for j, factor in enumerate(series, 1):
        east += factor * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
        north += factor * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
    false_north = 0.0 if latitude >= 0 else 1e7
    scale = 0.9996 * radius
    return float(500_000.0 + scale * east), float(false_north + scale * north), zone


def utm_band(latitude: float) -> str:
    """Letter of the latitude band of 8°, C to X."""
    return "CDEFGHJKLMNPQRSTUVWXX"[int(np.clip((latitude + 80.0) // 8, 0, 20))]
