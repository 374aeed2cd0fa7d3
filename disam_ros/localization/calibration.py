# SPDX-License-Identifier: Apache-2.0
"""Calibration of scores to likelihood ratios and of covariances to errors, on validation drives.

Coarse scores are normalized per query: z is a score in standard deviations of the query's scores
over the whole map, since a dark or empty image resembles everything. A logistic regression on
drives with ground truth gives the likelihood ratio of z at the query's place against elsewhere.
The pose errors of correct answers are estimated on the same drives.

Stored as `<model directory>/calibration.json`, which does not belong to the model's identity. A
model without one uses DEFAULT.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit

from disam_ros.errors import ModelError
from disam_ros.files import write_json

FILE = "calibration.json"
FORMAT_VERSION = 1
MIN_MATCHES = 20  # that a calibration is fitted to
MIN_M, MIN_DEG = 0.05, 0.25  # smallest standard deviations of an answer [m], [deg]
LOW = -3.0  # smallest log likelihood ratio: e³ times likelier elsewhere
GRADIENT = 1e-10  # of the regression's cost at which it has converged


@dataclass(frozen=True)
class Calibration:
    """log p(z | this place) / p(z | elsewhere) = intercept + slope · z, at least `low`.

    Above `high`, the range of the drives, it grows with the logarithm of the excess, so that it
    stays monotonic. horizontal, vertical [m], tilt, yaw [deg]: standard deviations of a correct
    answer. learned_on: names of the drives, for information.
    """

    intercept: float
    slope: float
    low: float
    high: float
    horizontal: float
    vertical: float
    tilt: float
    yaw: float
    learned_on: list[str] = field(default_factory=list)

    def log_ratio(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log likelihood ratios [...] of z [...]."""
        ratios = self.intercept + self.slope * np.asarray(z, np.float64)
        beyond: NDArray[np.float64] = np.log1p(np.maximum(ratios - self.high, 0.0))
        clipped: NDArray[np.float64] = np.clip(ratios, self.low, self.high)
        return clipped + beyond

    def floor(self) -> NDArray[np.float64]:
        """Covariance [6, 6] of a correct answer, order x y z rotX rotY rotZ [m, rad]."""
        turn = np.radians([self.tilt, self.tilt, self.yaw])
        return np.diag([self.horizontal, self.horizontal, self.vertical, *turn]) ** 2


DEFAULT = Calibration(-5.2, 3.1, LOW, 6.0, 0.5, 0.1, 1.0, 2.5, ["town-lite on the town of seed 50"])


class ScoreScale:
    """Mean and standard deviation of a query's scores over a map, without computing them all.

    means, squares: first and second moments [d] of the map's compressed coarse descriptors
    (compression.py); their principal components are uncorrelated, so that these are enough.
    """

    def __init__(self, means: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        self._means, self._squares = means, squares

    @classmethod
    def of_codes(
        cls, codes: NDArray[np.int8], steps: NDArray[np.float32], chunk: int = 8192
    ) -> ScoreScale:
        """From codes, int8 [N, d], and their quantization steps [d]."""
        sums, squares = np.zeros((2, codes.shape[1]))
        for start in range(0, len(codes), chunk):
            part = codes[start : start + chunk].astype(np.float32)
            sums += part.sum(0)
            squares += np.square(part).sum(0)
        return cls(sums * steps / len(codes), squares * steps**2 / len(codes))

    def z(self, query: NDArray[np.float32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores [n] of a query [d] in standard deviations from their mean over the map."""
        mean = float(query @ self._means)
        variance = float(np.square(query) @ self._squares) - mean**2
        z: NDArray[np.float64] = (scores - mean) / np.sqrt(max(variance, 1e-12))
        return z


def fit_ratio(matches: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float]:
    """Logistic regression of both classes, equally weighted: intercept, slope.

    matches: z at the query's place [M]; others: z elsewhere [K]. Raises ModelError for too few or
    inseparable ones.
    """
    if min(len(matches), len(others)) < MIN_MATCHES:
        raise ModelError(
            f"a calibration needs {MIN_MATCHES} images that the map shows and {MIN_MATCHES} pairs "
            f"that it does not, got {len(matches)} and {len(others)}: give longer drives"
        )
    z = np.concatenate([matches, others]).astype(float)
    label = np.repeat([1.0, 0.0], [len(matches), len(others)])
    weight = np.repeat([0.5 / len(matches), 0.5 / len(others)], [len(matches), len(others)])
    columns = np.stack([np.ones_like(z), z], 1)

    def cost(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Negative log likelihood and its gradient."""
        ratios = columns @ theta
        loss = weight @ (np.logaddexp(0.0, ratios) - label * ratios)
        return float(loss), columns.T @ (weight * (expit(ratios) - label))

    def curvature(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        p = expit(columns @ theta)
        hessian: NDArray[np.float64] = (columns * (weight * p * (1 - p))[:, None]).T @ columns
        return hessian

    found = minimize(
        cost,
        np.zeros(2),
        method="trust-exact",
        jac=True,
        hess=curvature,
        options={"gtol": GRADIENT},
    )
    theta = found.x
    if not (np.isfinite(theta).all() and theta[1] > 0):
        raise ModelError(
            "scores at the right places are not higher than elsewhere: the model, the map or the "
            "poses of the drives do not fit together"
        )
    return float(theta[0]), float(theta[1])


def highest_ratio(images: int) -> float:
    """Largest log likelihood ratio that a number of images supports: log n.

    An error rate below 1/n cannot be observed in n images; a larger ratio would be extrapolated
    (Vergeer et al., Science & Justice 56, 2016).
    """
    return max(1.0, math.log(images))


def fit_errors(
    offsets: NDArray[np.float64], covariances: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Standard deviations: horizontal and vertical [m], tilt and yaw [deg].

    Added to the covariances of the answers they make the errors consistent: the mean NEES, of each
    group of axes, is its degrees of freedom. None is below MIN_M or MIN_DEG. offsets: errors of
    correct answers, [N, 6] x y z rotX rotY rotZ [m, rad]. covariances: of these answers [N, 6, 6].
    """
    turn = float(np.radians(MIN_DEG))
    parts = (((0, 1), MIN_M), ((2,), MIN_M), ((3, 4), turn), ((5,), turn))
    horizontal, vertical, tilt, yaw = (
        _deviation(offsets[:, axes], covariances[:, axes][:, :, axes], least)
        for axes, least in parts
    )
    return horizontal, vertical, float(np.degrees(tilt)), float(np.degrees(yaw))


def _deviation(
    errors: NDArray[np.float64], covariances: NDArray[np.float64], least: float
) -> float:
    """s at which the mean of eᵀ (C + s² 1)⁻¹ e is D, at least `least`. errors: e [N, D];
    covariances: C [N, D, D]."""
    variances, axes = np.linalg.eigh(covariances)
    squares = np.square(np.einsum("nij,ni->nj", axes, errors))  # along the principal axes of C

    def excess(deviation: float) -> float:
        return float((squares / (variances.clip(0.0) + deviation**2)).mean()) - 1.0

    if excess(least) <= 0.0:
        return least
    return float(brentq(excess, least, 1.01 * np.sqrt(squares.mean())))


def load_calibration(model_dir: Path | str | None) -> Calibration:
    """A model's calibration, DEFAULT where it has none. Raises ModelError for a malformed file."""
    path = Path(model_dir or "") / FILE
    if model_dir is None or not path.is_file():
        return DEFAULT
    try:
        values = json.loads(path.read_text())
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version}, expected {FORMAT_VERSION}")
        found = Calibration(**values)
        numbers = [v for v in asdict(found).values() if not isinstance(v, list)]
        if not np.isfinite(np.array(numbers, float)).all() or found.slope <= 0:
            raise ValueError("a number is not finite or the slope not positive")
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} is malformed: {error}; remove it or run 'disam calibrate' again"
        ) from error


def save_calibration(calibration: Calibration, model_dir: Path | str) -> Path:
    """Write calibration.json atomically; returns its path."""
    path = Path(model_dir) / FILE
    write_json(path, {"format_version": FORMAT_VERSION, **asdict(calibration)})
    return path
