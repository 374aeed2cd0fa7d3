# SPDX-License-Identifier: Apache-2.0
"""Position priors: Gaussians with an outlier probability.

A PositionPrior N(m, Σ) is an outlier with probability ε. The posterior of a map image at x with
similarity s is p ∝ exp(s/T) · [(1 − ε) · exp(−d²/2) + ε], with a temperature T and the Mahalanobis
distance d² = (x − m)ᵀ Σ⁻¹ (x − m). In units of the similarity the second factor is T · log[…]: at
most 0, never below −T·d²/2 and never below T·log ε, so that a map image whose similarity exceeds
those near the prior by T·log(1/ε) overrules the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import PriorError
from disam_ros.fixes import FARTHEST
from disam_ros.geodesy import Origin, require_place
from disam_ros.geometry import Transform

GATE = 3.0  # Mahalanobis distance up to which a place agrees with a prior (98.9 % in 2-D)
FARTHEST_MEAN = 1e9  # largest coordinate of a prior [m]
VARIANCES = (1e-12, 1e18)  # smallest and largest of a prior in any direction [m²]
ASYMMETRY = 1e-6  # of a covariance, relative to its largest element, that counts as rounding

# Effects of a prior on an answer.
USED = "used"  # the answer lies in its gate
OVERRULED = "overruled"  # the answer lies elsewhere, although the map has images in its gate
OFF_MAP = "off the map"  # no map image lies in its gate: it was not used


@dataclass(frozen=True, eq=False)
class PositionPrior:
    """A position on the map with covariance.

    mean: [2] or [3] in the map's frame [m]; the height is not used. covariance: of x and y [2, 2],
    [m²]. Raises PriorError unless all is finite, the covariance symmetric and its eigenvalues in
    the range of VARIANCES.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __post_init__(self) -> None:
        mean = np.asarray(self.mean, dtype=np.float64)
        covariance = np.asarray(self.covariance, dtype=np.float64)
        if mean.shape not in ((2,), (3,)) or not np.isfinite(mean).all():
            raise PriorError(f"a prior's position expects x y [z] in metres, got {mean.tolist()}")
        if np.abs(mean[:2]).max() > FARTHEST_MEAN:
            raise PriorError(
                f"a prior's position expects metres up to ±{FARTHEST_MEAN:g}, got {mean.tolist()}"
            )
        _check(covariance)
        object.__setattr__(self, "mean", mean[:2])
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @property
    def deviation(self) -> float:
        """Largest standard deviation over all horizontal directions [m]."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance)[-1]))

    @property
    def gate_radius(self) -> float:
        """Radius around the mean that contains the gate [m]."""
        return GATE * self.deviation

    def distances(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mahalanobis distances d [N] of positions [N, ≥ 2]."""
        gaps = (np.asarray(positions, dtype=np.float64)[:, :2] - self.mean).T
        squares = (gaps * np.linalg.solve(self.covariance, gaps)).sum(0)
        distances: NDArray[np.float64] = np.sqrt(squares.clip(0.0))
        return distances

    def log_likelihood(
        self, positions: NDArray[np.float64], outlier_ratio: float
    ) -> NDArray[np.float64]:
        """log[(1 − ε) exp(−d²/2) + ε] of positions [N, ≥ 2]: 0 at the mean, at least log ε.

        outlier_ratio: ε in (0, 1], probability that the prior is an outlier.
        """
        inlier = np.log1p(-outlier_ratio) if outlier_ratio < 1.0 else -np.inf
        logs: NDArray[np.float64] = np.logaddexp(
            inlier - self.distances(positions) ** 2 / 2, np.log(outlier_ratio)
        )
        return logs

    def widened(self, metres: float) -> PositionPrior:
        """The prior with an additional independent error in x and y: 1 σ [m]; up to VARIANCES."""
        added = min(metres, VARIANCES[1] ** 0.5) ** 2
        covariance = self.covariance + added * np.eye(2)
        largest = float(np.linalg.eigvalsh(covariance)[-1])
        return PositionPrior(self.mean, covariance * min(1.0, 0.99 * VARIANCES[1] / largest))


def gnss_prior(
    latitude: float, longitude: float, covariance: NDArray[np.float64], origin: Origin
) -> PositionPrior:
    """A satellite fix [deg], with covariance [2, 2] of east and north [m²], as a prior on the map.

    East and north are taken in the tangent plane of the WGS 84 ellipsoid at the origin, and rotated
    into the map's axes. Raises PriorError for an invalid place, one farther than 100 km from the
    origin, or an invalid covariance.
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
    map_from_enu = origin.enu_from_map.T
    mean = map_from_enu @ enu[:2]
    return PositionPrior(mean, map_from_enu @ np.asarray(covariance, float) @ map_from_enu.T)


def propagate(
    map_from_base: Transform,
    covariance: NDArray[np.float64],
    motion: Transform,
    travelled: float,
    noise: float,
) -> PositionPrior:
    """A known pose propagated by odometry, as a prior.

    covariance: of its x and y [2, 2], [m²]. motion: base then ← base now. travelled: distance in
    between [m]. noise: standard deviation per distance [m/m], of odometry and of the pose's
    heading; independent of the pose's own error.
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
    elif np.abs(covariance).max() > VARIANCES[1] or not _in_range(np.linalg.eigvalsh(covariance)):
        fault = "positive variances of {:g} to {:g}, and correlations below 1".format(*VARIANCES)
    if fault:
        raise PriorError(
            f"the covariance of a position (m²) expects {fault}, got {covariance.tolist()}; check "
            "what its source fills in"
        )


def _in_range(variances: NDArray[np.floating[Any]]) -> bool:
    """Whether all lie within VARIANCES."""
    return bool((variances >= VARIANCES[0]).all() and (variances <= VARIANCES[1]).all())
