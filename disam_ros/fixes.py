# SPDX-License-Identifier: Apache-2.0
"""Satellite fixes: which of them count, how sure they are, and the place on Earth of a map by them.

A fix is a sensor_msgs/NavSatFix of any library.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.geodesy import Origin, turn

FARTHEST = 100e3  # largest distance of a fix from the map's origin [m]
LEAST_EXTENT = 10.0  # standard deviation of positions from which the axes are determined [m]
LARGEST_DEVIATION = 30.0  # of fixes from the poses, above which one of them is wrong [m]
LEAST_YAW = 0.02  # of the map's x axis from east that is reported [rad]
LEAST_VARIANCE = 1e-4  # that counts as a weight [m²]
MOST_FIXES = 20_000  # that are kept; of longer drives every second, fourth, …
OUTLIER = 3.0  # residuals beyond so many times the median are left out
TRIALS, ROUNDS = 100, 10  # of the least median, of least squares


def place_of(fix: Any) -> tuple[float, float] | None:
    """Return latitude and longitude [deg]; None where they are invalid or there is no fix.

    Nor are 0, 0 a place, which receivers report before their first fix.
    """
    latitude, longitude = float(fix.latitude), float(fix.longitude)
    on_earth = abs(latitude) <= 90 and abs(longitude) <= 180  # false with nan
    if fix.status.status < 0 or not on_earth or latitude == longitude == 0.0:
        return None
    return latitude, longitude


def covariance_of(fix: Any, deviation: float) -> NDArray[np.float64]:
    """Return the covariance [2, 2] of east and north [m²].

    deviation: of both where it is unknown: said to be so, not finite or without variance.
    """
    covariance = np.array(fix.position_covariance, np.float64).reshape(3, 3)[:2, :2]
    variances = np.diag(covariance)
    if fix.position_covariance_type == 0 or not np.isfinite(covariance).all():
        return deviation**2 * np.eye(2)
    return covariance if (variances > 0).all() else deviation**2 * np.eye(2)


def deviation_of(fix: Any, deviation: float) -> float:
    """Return the standard deviation of a fix in any horizontal direction [m], as above."""
    return math.sqrt(float(np.trace(covariance_of(fix, deviation))) / 2)


@dataclass(frozen=True)
class Registration:
    """The map frame registered to the Earth."""

    origin: Origin  # of the map frame, with the yaw of its x axis
    axes: bool  # whether that yaw was measured; if not, the axes are taken as east and north
    deviation: float  # median distance of a fix from its pose [m]

    def __str__(self) -> str:
        place = f"{self.origin.latitude:.6f}, {self.origin.longitude:.6f}"
        text = f"the map's origin is at latitude, longitude {place}"
        if not self.axes:
            return (
                text
                + "; the drive is too short for the direction of its axes: taken as east, north"
            )
        if abs(self.origin.yaw) <= LEAST_YAW:
            return text
        return (
            f"{text}; its x axis is {math.degrees(self.origin.yaw):.1f}° north of east: set "
            f"localizer.prior.origin_yaw of the localizer to {self.origin.yaw:.4f}"
        )


class MapPlace:
    """Collects pairs of a fix and the vehicle's position in the map, in bounded memory.

    May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[tuple[float, ...]] = []  # latitude, longitude, x, y, variance
        self._every = 1
        self.count = 0

    def add(
        self,
        latitude: float,
        longitude: float,
        position: NDArray[np.float64],
        variance: float,
    ) -> None:
        """Add a fix [deg] with its variance [m²], and map_from_base's position [≥ 2] then [m]."""
        with self._lock:
            if self.count % self._every == 0:
                x, y = float(position[0]), float(position[1])
                self._rows.append((latitude, longitude, x, y, variance))
            self.count += 1
            if len(self._rows) >= MOST_FIXES:
                self._rows, self._every = self._rows[::2], 2 * self._every

    def register(self) -> Registration | None:
        """Register the map to the majority of the fixes, each by its variance.

        None without a fix, or where the map's origin lies more than 100 km away: its coordinates
        are then no metres from a place.
        """
        with self._lock:
            rows = np.array(self._rows, np.float64).reshape(-1, 5)
        if not len(rows):
            return None
        middle = _middle(rows[:, :2])
        targets = middle.to_enu(*rows[:, :2].T)[:, :2]
        points, weights = rows[:, 2:4], 1.0 / np.maximum(rows[:, 4], LEAST_VARIANCE)
        spread = np.sqrt(np.average((points - points.mean(0)) ** 2, axis=0).sum())
        axes = bool(spread >= LEAST_EXTENT)
        yaw, shift, residuals = register(points, targets, weights, turned=axes)
        if np.linalg.norm(shift) > FARTHEST:
            return None
        origin = Origin(*middle.to_geodetic(shift), yaw)
        return Registration(origin, axes, float(np.median(residuals)))

    def outcome(self) -> tuple[Registration | None, str]:
        """Return the registration, None where it is at fault, and what to report of either."""
        registration = self.register()
        if registration is None:
            if not self.count:
                return None, "no fix came with a pose"
            return None, "the origin of the poses lies more than 100 km from the fixes"
        if registration.deviation > LARGEST_DEVIATION:
            return None, (
                f"fixes lie {registration.deviation:.0f} m (median) from the poses; are these "
                "metres, and does the receiver see the sky?"
            )
        return registration, str(registration)


def register(
    points: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    turned: bool = True,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Rotation [rad] and shift [2] that take points [n, 2] to targets, and residuals [n] [m].

    Least squares (Umeyama, 1991) without outliers, from the least median of residuals on
    (Rousseeuw, 1984): up to half of the pairs may be wrong. turned: False keeps the rotation 0.
    """
    weights = np.ones(len(points)) if weights is None else weights
    yaw, shift = _median_fit(points, targets) if turned else (0.0, np.median(targets - points, 0))
    residuals = _residuals(points, targets, yaw, shift)
    used: NDArray[np.bool_] = np.zeros(len(points), bool)
    for _ in range(ROUNDS):
        kept = residuals <= max(OUTLIER * float(np.median(residuals)), 1e-6)
        if np.array_equal(kept, used):
            break
        used = kept
        yaw, shift = _least_squares(points[used], targets[used], weights[used], turned)
        residuals = _residuals(points, targets, yaw, shift)
    return yaw, shift, residuals


def _median_fit(
    points: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the motion by two of the pairs whose median residual over all pairs is least."""
    rng, ones = np.random.default_rng(0), np.ones(2)
    best: tuple[float, float, NDArray[np.float64]] = (np.inf, 0.0, np.zeros(2))
    for _ in range(TRIALS):
        pair = rng.integers(len(points), size=2)
        yaw, shift = _least_squares(points[pair], targets[pair], ones)
        residual = float(np.median(_residuals(points, targets, yaw, shift)))
        best = min(best, (residual, yaw, shift), key=lambda fit: fit[0])
    return best[1:]


def _least_squares(
    points: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64],
    turned: bool = True,
) -> tuple[float, NDArray[np.float64]]:
    """Return the motion of least squares, by weights [n]."""
    share = weights[:, None] / weights.sum()
    a, b = (share * points).sum(0), (share * targets).sum(0)
    cross = (share * (targets - b)).T @ (points - a)
    yaw = float(np.arctan2(cross[1, 0] - cross[0, 1], np.trace(cross))) if turned else 0.0
    return yaw, b - turn(yaw) @ a


def _residuals(
    points: NDArray[np.float64],
    targets: NDArray[np.float64],
    yaw: float,
    shift: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the distances [n] of moved points from their targets."""
    return np.asarray(np.linalg.norm(targets - points @ turn(yaw).T - shift, axis=1), np.float64)


def _middle(degrees: NDArray[np.float64]) -> Origin:
    """Return the place among latitudes and longitudes [n, 2] [deg] that is nearest their median."""
    from pymap3d import geodetic2ecef

    points = np.stack(geodetic2ecef(degrees[:, 0], degrees[:, 1], np.zeros(len(degrees))), 1)
    nearest = np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1))
    return Origin(float(degrees[nearest, 0]), float(degrees[nearest, 1]))
