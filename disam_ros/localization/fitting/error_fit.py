# SPDX-License-Identifier: Apache-2.0
"""Errors of correct answers as standard deviations of `Calibration`, fitted to drives.

Across the track, in height and in rotation they have a floor and a part that grows with the map's
spacing; along the track they are a share of the spacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from disam_ros.localization.calibration import bends, snapped

ACCURACY = (0.05, 0.25)  # of the drives' poses: smallest errors that they can teach [m], [deg]
MIN_PROGRESS = 0.5  # along the track, of a step [m, rad] of unit length that leads anywhere
MIN_ALONG = 0.1  # smallest one that is fitted
MIXTURES = 25  # of floor and growth that are compared
OVERLAPS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)  # spacings that are compared [m]
CLEARLY = 0.1  # difference of twice the log likelihood that counts
LARGEST = 1e3  # standard deviation that is searched for


def fit_errors(
    offsets: NDArray[np.float64],
    covariances: NDArray[np.float64],
    steps: NDArray[np.float64],
    least: tuple[float, float] = ACCURACY,
) -> dict[str, Any]:
    """Errors of `Calibration`: horizontal, vertical, tilt, yaw, growth, along, overlap.

    Added to the covariances of the answers they make the errors consistent: the mean NEES of each
    group of axes is its degrees of freedom. Which part of them grows with the spacing is chosen by
    likelihood. The horizontal error is that across the track; what remains along it is `along`. The
    other errors are those that a progress along the track does not explain, in bends as well.
    offsets: errors of correct answers, [N, 6] x y z rotX rotY rotZ [m, rad]. covariances: of these
    answers [N, 6, 6]. steps: second moments of the map images' steps there [N, 6, 6]. least:
    smallest standard deviations [m], [deg].
    """
    aside, turned = (np.square(bend)[:, None, None] for bend in bends(steps))
    covariances = covariances + aside * np.diag([1.0] * 2 + [0.0] * 4)
    covariances = covariances + turned * np.diag([0.0] * 5 + [1.0])
    ahead, across = np.zeros((2, len(steps), 1, 6))
    ahead[:, 0, :2] = np.linalg.eigh(steps[:, :2, :2])[1][:, :, 1]
    across[:, 0, :2] = ahead[:, 0, [1, 0]] * [-1, 1]
    spacing = np.sqrt(np.trace(steps[:, :3, :3], axis1=1, axis2=2))
    apart = _off_track(steps, ahead[:, 0])
    left = np.einsum("nij,nj->ni", apart, offsets), apart @ covariances @ apart.transpose(0, 2, 1)
    axes, turn = np.broadcast_to(np.eye(6), steps.shape), float(np.radians(least[1]))
    horizontal = _fit(_Errors.along(across, *left), spacing, least[0])
    vertical, tilt, yaw = (
        _fit(_Errors.along(axes[:, chosen], *left), spacing, smallest)
        for chosen, smallest in (([2], least[0]), ([3, 4], turn), ([5], turn))
    )
    isotropic = (horizontal[0] ** 2 + np.square(horizontal[1] * spacing))[:, None, None]
    explained = covariances + isotropic * np.eye(6)
    step = np.sqrt(np.einsum("nki,nij,nkj->n", ahead, steps, ahead))
    along, overlap = _fit_along(_Errors.along(ahead, offsets, explained), step, spacing)
    tilt, yaw = np.degrees(tilt), np.degrees(yaw)
    names = ("horizontal", "vertical", "tilt", "yaw")
    fits = (horizontal, vertical, tilt, yaw)
    floors = {name: float(pair[0]) for name, pair in zip(names, fits, strict=True)}
    growth = [float(pair[1]) for pair in fits]
    return {**floors, "growth": growth, "along": along, "overlap": overlap}


def _off_track(steps: NDArray[np.float64], ahead: NDArray[np.float64]) -> NDArray[np.float64]:
    """Projections [N, 6, 6] of errors orthogonal to motion along the track.

    steps: second moments [N, 6, 6]; ahead: horizontal direction of the track [N, 6].
    """
    step = np.linalg.eigh(steps)[1][:, :, -1]
    progress = (step * ahead).sum(1)
    moves = np.abs(progress) > MIN_PROGRESS
    slope = np.where(moves[:, None], step / np.where(moves, progress, 1.0)[:, None], 0.0)
    projections: NDArray[np.float64] = np.eye(6) - slope[:, :, None] * ahead[:, None, :]
    return projections


@dataclass(frozen=True, eq=False)
class _Errors:
    """Squared errors along the principal axes of their covariances, and its variances [N, D]."""

    squares: NDArray[np.float64]
    variances: NDArray[np.float64]

    @classmethod
    def along(
        cls,
        axes: NDArray[np.float64],
        offsets: NDArray[np.float64],
        covariances: NDArray[np.float64],
    ) -> _Errors:
        """Errors from offsets [N, 6] and covariances [N, 6, 6] along orthonormal axes [N, D, 6]."""
        errors = np.einsum("ndi,ni->nd", axes, offsets)
        inside = np.einsum("ndi,nij,nej->nde", axes, covariances, axes)
        variances, principal = np.linalg.eigh(inside)
        squares = np.square(np.einsum("nij,ni->nj", principal, errors))
        return cls(squares, variances.clip(0.0))

    def scale(self, units: NDArray[np.float64], least: float) -> float:
        """s ≥ least at which the mean NEES is D with variances larger by (s · units [N])²."""

        def excess(scale: float) -> float:
            return float((self.squares / self._total(scale * units)).mean()) - 1.0

        highest = 2.0 * least
        while excess(highest) > 0.0 and highest < LARGEST:
            highest *= 2.0
        if excess(least) <= 0.0 or highest >= LARGEST:
            return least
        return float(brentq(excess, least, highest))

    def cost(self, deviations: NDArray[np.float64]) -> float:
        """Twice the negative log likelihood with further standard deviations [N]."""
        total = self._total(deviations)
        return float((np.log(total) + self.squares / total).sum())

    def _total(self, deviations: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = self.variances + np.square(deviations)[:, None] + 1e-12
        return total


def _fit_along(
    errors: _Errors, step: NDArray[np.float64], spacing: NDArray[np.float64]
) -> tuple[float, float]:
    """`along` and `overlap`: the smallest overlap whose likelihood is not clearly worse."""
    units = [step * snapped(spacing, overlap) for overlap in OVERLAPS]
    scales = [errors.scale(unit, MIN_ALONG) for unit in units]
    costs = np.array([errors.cost(a * unit) for a, unit in zip(scales, units, strict=True)])
    best = int(np.argmax(costs <= costs.min() + CLEARLY))
    return scales[best], OVERLAPS[best]


def _fit(errors: _Errors, spacing: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Floor and growth per metre of spacing [2] of a standard deviation, the floor at least
    `least`: the smallest growth whose likelihood is not worse than the best by CLEARLY."""
    fits, costs = [], []
    for angle in np.linspace(0.0, np.pi / 2, MIXTURES):
        shares = np.array([np.cos(angle), np.sin(angle)])
        units = np.hypot(shares[0], shares[1] * spacing)
        scale = errors.scale(units, least)
        fits.append(scale * shares)
        costs.append(errors.cost(scale * units))
    best = fits[int(np.argmax(np.array(costs) <= min(costs) + CLEARLY))]
    return np.array([max(best[0], least), best[1]])
