# SPDX-License-Identifier: Apache-2.0
"""Calibration of scores to likelihood ratios and of covariances to errors, on validation drives.

Scores are normalized per query, since a dark or empty image resembles everything: z is a score in
standard deviations of the query's scores over the map, of fine ones over a sample. Logistic
regression on drives with ground truth gives the likelihood ratio of both z at the query's place
against elsewhere. Errors of correct answers have a part that does not depend on the map and one in
proportion to its local spacing. Domains that the drives show often have values of their own.

Stored as `<model directory>/calibration.json`, which does not belong to the model's identity. A
model without one uses DEFAULT.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit

from disam_ros.errors import ModelError
from disam_ros.features.inlier_evidence import PoseErrors
from disam_ros.files.outputs import output_file
from disam_ros.files.reading import build, check_entries, parse_json, read_bytes, reading

logger = logging.getLogger(__name__)

FILE = "calibration.json"
FORMAT_VERSION = 2
KINDS = {"format_version": int, "domains": dict | None, "keypoints": dict | None}
OF_COARSE = 1  # format without errors by spacing and domains, whose ratio is that of coarse scores
SAMPLE = 48  # map images that a query's scores are normalized by
MIN_STD = 0.005  # of their scores
MIN_MATCHES = 20  # that a calibration is fitted to
ACCURACY = (0.05, 0.25)  # of the drives' poses: smallest errors that they can teach [m], [deg]
EVEN = 12**-0.5  # `along` of a position anywhere between two map images
MIN_ALONG = 0.1  # smallest one that is fitted
MIXTURES = 25  # of floor and growth that are compared
OVERLAPS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)  # spacings that are compared [m]
CLEARLY = 0.1  # difference of twice the log likelihood that counts
LARGEST = 1e3  # standard deviation that is searched for
LOW = -3.0  # smallest log likelihood ratio: e³ times likelier elsewhere
RATIO = ("intercept", "slope", "coarse", "low", "high")
GRADIENT = 1e-10  # of the regression's cost at which it has converged


@dataclass(frozen=True)
class Calibration:
    """log p(z | this place) / p(z | elsewhere) = intercept + slope · z_fine + coarse · z_coarse, at
    least `low`. Where an image's largest ratio is above `high`, the range of the drives, its excess
    counts by its logarithm, and the other ratios keep their differences to it. horizontal, vertical
    [m], tilt, yaw [deg]: standard deviations of a correct answer; growth: their increase per metre
    of the map's local spacing (root of a sum of squares), the horizontal one by the sagitta of the
    track between map images, too; along: that of its further error along the track, in local
    spacings, and in proportion less below a spacing of `overlap` [m], where answers lie between map
    images that they overlap with. shift: that of the angle between two views [deg] (view_shift.py).
    learned_on: names of the drives, for information. keypoints: errors of verified poses by
    matcher. domains: values for queries of a domain, by name.
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
    coarse: float = 0.0
    along: float = EVEN
    overlap: float = 0.0
    shift: float = 1.5
    growth: list[float] = field(default_factory=lambda: [0.0] * 4)
    keypoints: dict[str, PoseErrors] = field(default_factory=dict)
    domains: dict[str, Calibration] = field(default_factory=dict)

    def of(self, domain: str) -> Calibration:
        """That of a query's domain."""
        return self.domains.get(domain, self)

    def log_ratio(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log likelihood ratios [n] of map images, from z [n, 2] of fine and coarse scores."""
        ratios = self.intercept + np.asarray(z, np.float64) @ [self.slope, self.coarse]
        beyond = max(0.0, float(ratios.max(initial=-np.inf)) - self.high)
        return np.maximum(ratios - beyond + math.log1p(beyond), self.low)

    def covariance(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covariance [6, 6] of a correct answer, order x y z rotX rotY rotZ [m, rad].

        steps: second moment [6, 6] of the map images' steps there (mapping/spacing.py).
        """
        floor = np.array([self.horizontal, self.vertical, self.tilt, self.yaw])
        variances = floor**2 + np.square(self.growth) * np.trace(steps[:3, :3])
        variances[2:] *= np.radians(1.0) ** 2
        variances[0] += _sagitta(steps) ** 2
        along = self.along * _snapped(np.sqrt(np.trace(steps[:3, :3])), self.overlap)
        total: NDArray[np.float64] = np.diag(variances[[0, 0, 1, 2, 2, 3]]) + along**2 * steps
        return total


def _sagitta(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of an arc from its chord between two map images [...], from their second moments
    [..., 6, 6]: length times turn over eight [m]."""
    length, turn = (np.trace(steps[..., i : i + 3, i : i + 3], axis1=-2, axis2=-1) for i in (0, 3))
    sagitta: NDArray[np.float64] = np.sqrt(length * turn) / 8
    return sagitta


def _snapped(spacing: NDArray[np.float64], overlap: float) -> NDArray[np.float64]:
    """Share of the spacing [...] that an answer is not interpolated over."""
    share: NDArray[np.float64] = np.minimum(1.0, spacing / max(overlap, 1e-6))
    return share


DEFAULT = Calibration(
    intercept=-9.6,
    slope=2.0,
    low=LOW,
    high=6.0,
    horizontal=0.5,
    vertical=0.1,
    tilt=1.0,
    yaw=2.5,
    learned_on=["town-lite on the town of seed 50"],
    coarse=1.8,
)


def background(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A sample of map images, spread over the map, that a query's scores are normalized by."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64))]


def z_scores(scores: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float64]:
    """Fine scores [n] of a query in standard deviations from their mean elsewhere.

    sample: its scores with the `background` [m]; the highest eighth is left out, as the query's own
    place may be among them.
    """
    elsewhere = np.sort(sample.astype(np.float64))[: len(sample) - len(sample) // 8]
    z: NDArray[np.float64] = (scores - elsewhere.mean()) / max(elsewhere.std(), MIN_STD)
    return z


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


def fit_ratio(
    matches: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Logistic regression of both classes, equally weighted: intercept, slope, coarse.

    matches: z of fine and coarse scores at the query's place [M, 2]; others: elsewhere [K, 2].
    Where a larger coarse score would count against a place it does not count. Raises ModelError for
    too few or inseparable ones.
    """
    if min(len(matches), len(others)) < MIN_MATCHES:
        raise ModelError(
            f"a calibration needs {MIN_MATCHES} images that the map shows and {MIN_MATCHES} pairs "
            f"that it does not, got {len(matches)} and {len(others)}: give longer drives"
        )
    z = np.concatenate([matches, others]).astype(float)
    label = np.repeat([1.0, 0.0], [len(matches), len(others)])
    weight = np.repeat([0.5 / len(matches), 0.5 / len(others)], [len(matches), len(others)])
    columns = np.column_stack([np.ones(len(z)), z])

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
        np.zeros(columns.shape[1]),
        method="trust-exact",
        jac=True,
        hess=curvature,
        options={"gtol": GRADIENT},
    )
    theta = found.x
    if len(theta) == 3 and theta[2] < 0.0:
        return fit_ratio(matches[:, :1], others[:, :1])
    if not (np.isfinite(theta).all() and theta[1] > 0):
        raise ModelError(
            "scores at the right places are not higher than elsewhere: the model, the map or the "
            "poses of the drives do not fit together"
        )
    return float(theta[0]), float(theta[1]), float(theta[2]) if len(theta) == 3 else 0.0


def highest_ratio(images: int) -> float:
    """Largest log likelihood ratio that a number of images supports: log n.

    An error rate below 1/n cannot be observed in n images; a larger ratio would be extrapolated
    (Vergeer et al., Science & Justice 56, 2016).
    """
    return max(1.0, math.log(images))


def fit_errors(
    offsets: NDArray[np.float64],
    covariances: NDArray[np.float64],
    steps: NDArray[np.float64],
    least: tuple[float, float] = ACCURACY,
) -> dict[str, Any]:
    """Errors of `Calibration`: horizontal, vertical, tilt, yaw, growth, along, overlap.

    Added to the covariances of the answers they make the errors consistent: the mean NEES of each
    group of axes is its degrees of freedom. Which part of them grows with the spacing is chosen by
    likelihood. The horizontal error is that across the track; what remains along it is `along`.
    offsets: errors of correct answers, [N, 6] x y z rotX rotY rotZ [m, rad]. covariances: of these
    answers [N, 6, 6]. steps: second moments of the map images' steps there [N, 6, 6]. least:
    smallest standard deviations [m], [deg].
    """
    level = np.diag([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    covariances = covariances + np.square(_sagitta(steps))[:, None, None] * level
    ahead, across = np.zeros((2, len(steps), 1, 6))
    ahead[:, 0, :2] = np.linalg.eigh(steps[:, :2, :2])[1][:, :, 1]
    across[:, 0, :2] = ahead[:, 0, [1, 0]] * [-1, 1]
    spacing = np.sqrt(np.trace(steps[:, :3, :3], axis1=1, axis2=2))
    horizontal = _fit(_Errors.along(across, offsets, covariances), spacing, least[0])
    isotropic = (horizontal[0] ** 2 + np.square(horizontal[1] * spacing))[:, None, None]
    known = covariances + isotropic * np.eye(6)
    step = np.sqrt(np.einsum("nki,nij,nkj->n", ahead, steps, ahead))
    along, overlap = _fit_along(_Errors.along(ahead, offsets, known), step, spacing)
    snapped = np.square(along * _snapped(spacing, overlap))
    known, axes = (
        covariances + snapped[:, None, None] * steps,
        np.broadcast_to(np.eye(6), steps.shape),
    )
    turn = float(np.radians(least[1]))
    vertical, tilt, yaw = (
        _fit(_Errors.along(axes[:, chosen], offsets, known), spacing, smallest)
        for chosen, smallest in (([2], least[0]), ([3, 4], turn), ([5], turn))
    )
    tilt, yaw = np.degrees(tilt), np.degrees(yaw)
    names = ("horizontal", "vertical", "tilt", "yaw")
    found = (horizontal, vertical, tilt, yaw)
    floors = {name: float(pair[0]) for name, pair in zip(names, found, strict=True)}
    growth = [float(pair[1]) for pair in found]
    return {**floors, "growth": growth, "along": along, "overlap": overlap}


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
        """Of offsets [N, 6] and covariances [N, 6, 6] along orthonormal axes [N, D, 6]."""
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
    units = [step * _snapped(spacing, overlap) for overlap in OVERLAPS]
    scales = [errors.scale(some, MIN_ALONG) for some in units]
    costs = np.array([errors.cost(a * some) for a, some in zip(scales, units, strict=True)])
    best = int(np.argmax(costs <= costs.min() + CLEARLY))
    return scales[best], OVERLAPS[best]


def _fit(errors: _Errors, spacing: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Floor and growth per metre of spacing [2] of a standard deviation, the floor at least
    `least`: the smallest growth whose likelihood is not worse than the best by CLEARLY."""
    found, costs = [], []
    for angle in np.linspace(0.0, np.pi / 2, MIXTURES):
        shares = np.array([np.cos(angle), np.sin(angle)])
        units = np.hypot(shares[0], shares[1] * spacing)
        scale = errors.scale(units, least)
        found.append(scale * shares)
        costs.append(errors.cost(scale * units))
    best = found[int(np.argmax(np.array(costs) <= min(costs) + CLEARLY))]
    return np.array([max(best[0], least), best[1]])


def load_calibration(model_dir: Path | str | None) -> Calibration:
    """A model's calibration, DEFAULT where it has none. Raises ModelError for a malformed file."""
    path = Path(model_dir or "") / FILE
    with reading(path, ModelError):
        if model_dir is None or not path.exists():
            return DEFAULT
    try:
        values = parse_json(read_bytes(path, ModelError), "it", ModelError)
        values = check_entries(values, KINDS, "it", ModelError)
        version = values.pop("format_version")
        if version == OF_COARSE:
            logger.warning(
                "%s is of coarse scores, which are used no more: the default likelihood ratio is "
                "used until 'disam calibrate' is run again",
                path,
            )
            values |= {name: getattr(DEFAULT, name) for name in RATIO}
        elif version != FORMAT_VERSION:
            raise ModelError(f"format version {version}, expected {FORMAT_VERSION}")
        domains = {name: _read(own, name) for name, own in (values.pop("domains") or {}).items()}
        keypoints = {
            name: build(PoseErrors, errors, f"keypoints of '{name}'", ModelError)
            for name, errors in (values.pop("keypoints") or {}).items()
        }
        return replace(_read(values, "it"), domains=domains, keypoints=keypoints)
    except (ModelError, ValueError) as error:
        raise ModelError(
            f"{path} is malformed: {error}; remove it or run 'disam calibrate' again"
        ) from error


def _read(values: Any, where: str) -> Calibration:
    """One domain's values. Raises ModelError."""
    found = build(Calibration, values, where, ModelError)
    if found.slope <= 0 or len(found.growth) != 4:
        raise ModelError(f"{where}: 'slope' expects more than 0, 'growth' 4 numbers; got {found}")
    return found


def save_calibration(calibration: Calibration, model_dir: Path | str) -> Path:
    """Write calibration.json, an old one is kept beside it; returns its path."""
    path, values = Path(model_dir) / FILE, asdict(calibration)
    for own in values["domains"].values():
        del own["domains"], own["keypoints"]
    with output_file(path, overwrite=True) as file:
        file.write(json.dumps({"format_version": FORMAT_VERSION, **values}, indent=2) + "\n")
    return path
