# SPDX-License-Identifier: Apache-2.0
"""What is known of the place before the image is looked at: a disc, or a position and how sure.

A PositionPrior N(m, Σ) may be wrong altogether with probability ε, and then tells nothing. Of a map
image at x the posterior is p ∝ exp(s/T) · [(1 − ε) · exp(−d²/2) + ε] with its similarity s, a
temperature T and d² = (x − m)ᵀ Σ⁻¹ (x − m). In units of the similarity the second factor is
T · log[…]: at most 0, never below −T·d²/2 and never below T·log ε, so that a view that resembles
the query by T·log(1/ε) more than all views at the prior's place overrules the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import PriorError
from disam_ros.geodesy import Origin, require_place
from disam_ros.geometry import Transform

GATE = 3.0  # standard deviations within which a place agrees with a prior (98.9 % of them do)
FARTHEST = 100e3  # metres from the origin up to which a fix is taken for one on the map
ASYMMETRY = 1e-6  # of a covariance, as a share of its largest element, that counts as rounding

# What a prior did to an answer.
USED = "used"  # the answer agrees with it
OVERRULED = "overruled"  # the answer lies elsewhere, although the map has images at its place
OFF_MAP = "off the map"  # no map image is at its place: it was not used


@dataclass(frozen=True)
class Disc:
    """A place to search in, metres on the map: no prior inside, nothing outside."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, eq=False)
class PositionPrior:
    """A position on the map and how sure it is.

    mean: [2] or [3], metres in the map's frame; the height is not used. covariance: [2, 2] of x and
    y, m². Raises PriorError unless all is finite and the covariance symmetric, positive definite.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __post_init__(self) -> None:
        mean = np.asarray(self.mean, dtype=np.float64)
        covariance = np.asarray(self.covariance, dtype=np.float64)
        if mean.shape not in ((2,), (3,)) or not np.isfinite(mean).all():
            raise PriorError(f"a prior's position expects x y [z] in metres, got {mean.tolist()}")
        _check(covariance)
        object.__setattr__(self, "mean", mean[:2])
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @property
    def deviation(self) -> float:
        """Standard deviation (metres) along the axis that is least known."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance)[-1]))

    @property
    def gate_radius(self) -> float:
        """Metres around the mean beyond which no place agrees with the prior."""
        return GATE * self.deviation

    def distances(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions [N, ≥ 2] → distances d from the mean [N] in standard deviations."""
        gaps = (np.asarray(positions, dtype=np.float64)[:, :2] - self.mean).T
        squares = (gaps * np.linalg.solve(self.covariance, gaps)).sum(0)
        distances: NDArray[np.float64] = np.sqrt(squares.clip(0.0))
        return distances

    def log_likelihood(
        self, positions: NDArray[np.float64], outlier_ratio: float
    ) -> NDArray[np.float64]:
        """log[(1 − ε) exp(−d²/2) + ε] of positions [N, ≥ 2]: 0 at the mean, at least log ε.

        outlier_ratio: ε in (0, 1], probability that the prior is wrong altogether.
        """
        inlier = np.log1p(-outlier_ratio) if outlier_ratio < 1.0 else -np.inf
        logs: NDArray[np.float64] = np.logaddexp(
            inlier - self.distances(positions) ** 2 / 2, np.log(outlier_ratio)
        )
        return logs

    def widened(self, metres: float) -> PositionPrior:
        """The same with an independent error of so many metres (1 σ) in x and y besides."""
        return PositionPrior(self.mean, self.covariance + metres**2 * np.eye(2))


def gnss_prior(
    latitude: float, longitude: float, covariance: NDArray[np.float64], origin: Origin
) -> PositionPrior:
    """A satellite fix (degrees; covariance [2, 2] of east and north, m²) as a prior on the map.

    Coordinates are those of the plane that touches the WGS 84 ellipsoid at the origin (east,
    north), turned into the map's axes. Raises PriorError for no place on Earth, one farther than
    100 km from the origin, or a covariance that is none.
    """
    require_place(latitude, longitude, "the fix")
    _check(np.asarray(covariance, dtype=np.float64))
    enu = origin.to_enu(latitude, longitude)
    distance = float(np.linalg.norm(enu))
    if distance > FARTHEST:
        raise PriorError(
            f"the fix {latitude:.5f}, {longitude:.5f} lies {distance / 1e3:.0f} km from the map's "
            f"origin {origin.latitude:.5f}, {origin.longitude:.5f}: is the origin right?"
        )
    c, s = np.cos(origin.yaw), np.sin(origin.yaw)
    map_from_enu = np.array([[c, s], [-s, c]])
    mean = map_from_enu @ enu[:2]
    return PositionPrior(mean, map_from_enu @ np.asarray(covariance, float) @ map_from_enu.T)


def propagate(
    map_from_base: Transform,
    covariance: NDArray[np.float64],
    motion: Transform,
    travelled: float,
    noise: float,
) -> PositionPrior:
    """A pose that was known, moved by odometry, as a prior.

    covariance: [2, 2] of its x and y, m². motion: base then ← base now. travelled: metres driven in
    between. noise: metres of error (1 σ) per metre driven, of odometry and of the pose's heading;
    it is taken as independent of the pose's own error.
    """
    moved = map_from_base @ motion
    return PositionPrior(moved.translation, covariance).widened(noise * travelled)


def _check(covariance: NDArray[np.float64]) -> None:
    """Raise PriorError unless it is a covariance [2, 2]."""
    fault = ""
    if covariance.shape != (2, 2):
        fault = "two rows and columns"
    elif not np.isfinite(covariance).all():
        fault = "finite values"
    elif abs(covariance[0, 1] - covariance[1, 0]) > ASYMMETRY * np.abs(covariance).max():
        fault = "symmetry"
    elif np.linalg.eigvalsh(covariance)[0] <= 0:
        fault = "positive variances, and correlations below 1"
    if fault:
        raise PriorError(
            f"the covariance of a position (m²) expects {fault}, got {covariance.tolist()}; check "
            "what its source fills in"
        )
