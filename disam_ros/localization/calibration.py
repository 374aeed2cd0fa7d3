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
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from disam_ros.errors import ModelError
from disam_ros.features.inlier_evidence import PoseErrors
from disam_ros.files.checking import build, check_entries
from disam_ros.files.outputs import output_file
from disam_ros.files.reading import parse_json, read_bytes, reading
from disam_ros.mapping.repetition import evenly
from disam_ros.models.similarity import decode

FILE = "calibration.json"
FORMAT_VERSION = 2
KINDS = {"format_version": int, "domains": dict | None, "keypoints": dict | None}
SAMPLE = 48  # map images that a query's scores are normalized by
COARSE_SAMPLE = 1024  # and its coarse scores
MIN_STD = 0.005  # of their scores
MIN_MATCHES = 20  # that a calibration is fitted to
EVEN = 12**-0.5  # `along` of a position anywhere between two map images
LOW = -3.0  # smallest log likelihood ratio: e³ times likelier elsewhere
LARGEST = 1e4  # number of a calibration
GRADIENT = 1e-10  # of the regression's cost at which it has converged


def within(minimum: float | None, maximum: float, **default: Any) -> Any:
    """A field of a calibration with the range that its number has in a file (files/checking.py)."""
    return field(metadata={"minimum": minimum, "maximum": maximum}, **default)


@dataclass(frozen=True)
class Calibration:
    """Likelihood ratios of scores, and errors of correct answers.

    log p(z | this place) / p(z | elsewhere) = intercept + slope · z_fine + coarse · z_coarse, at
    least `low`. Where an image's largest ratio is above `high`, its excess counts by its logarithm,
    and the other ratios keep their differences to it. A spacing is the map's local one.
    """

    intercept: float = within(-LARGEST, LARGEST)
    slope: float = within(None, LARGEST)  # above 0
    low: float = within(-LARGEST, 0.0)  # least log likelihood ratio
    high: float = within(0.0, LARGEST)  # largest one that the drives support
    # Standard deviations of a correct answer; horizontal and yaw are wider in a bend of the track.
    horizontal: float = within(0.0, LARGEST)  # [m]
    vertical: float = within(0.0, LARGEST)  # [m]
    tilt: float = within(0.0, 180.0)  # [deg]
    yaw: float = within(0.0, 180.0)  # [deg]
    learned_on: list[str] = field(default_factory=list)  # names of the drives, for information
    coarse: float = within(0.0, LARGEST, default=0.0)
    # Standard deviation of the further error along the track, in spacings.
    along: float = within(0.0, LARGEST, default=EVEN)
    # Spacing [m] below which that error is less in proportion.
    overlap: float = within(0.0, LARGEST, default=0.0)
    # Standard deviations of the angle between two views, sideways and upright [deg]
    # (pose.py).
    shift: float = within(0.0, 180.0, default=1.5)
    upright: float = within(0.0, 180.0, default=0.35)
    # Log odds of a single image's place by its lead (candidates.py), the same in all domains.
    lead_slope: float = within(None, LARGEST, default=70.0)
    lead_intercept: float = within(-LARGEST, LARGEST, default=-5.0)
    # Growth of horizontal, vertical, tilt and yaw per metre of spacing (root of a sum of squares).
    growth: list[float] = within(0.0, LARGEST, default_factory=lambda: [0.0] * 4)
    # Of verified poses, by local features
    keypoints: dict[str, PoseErrors] = field(default_factory=dict)
    domains: dict[str, Calibration] = field(default_factory=dict)  # for queries of a domain

    def of(self, domain: str) -> Calibration:
        """Calibration of a query's domain."""
        return self.domains.get(domain, self)

    def log_ratio(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log likelihood ratios [n] of map images, from z [n, 2] of fine and coarse scores."""
        ratios = self.intercept + np.asarray(z, np.float64) @ [self.slope, self.coarse]
        beyond = max(0.0, float(ratios.max(initial=-np.inf)) - self.high)
        return np.maximum(ratios - beyond + math.log1p(beyond), self.low)

    def covariance(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covariance [6, 6] of a correct answer to a sequence, x y z rotX rotY rotZ [m, rad].

        steps: second moment [6, 6] of the step between map images there, as of Belief.steps.
        """
        return self.across(steps) + self.progress(steps)

    def across(
        self, steps: NDArray[np.float64], scales: tuple[float, float] = (1.0, 1.0)
    ) -> NDArray[np.float64]:
        """Cross-track covariance [6, 6]. scales: of the variances that view angles show, sideways
        and upright (pose.py)."""
        floor = np.array([self.horizontal, self.vertical, self.tilt, self.yaw])
        variances = floor**2 + np.square(self.growth) * np.trace(steps[:3, :3])
        variances[2:] *= np.radians(1.0) ** 2
        lateral, turn = bends(steps)
        variances[[0, 3]] += np.square([lateral, turn])
        variances *= np.array(scales)[[0, 1, 1, 0]]
        total: NDArray[np.float64] = np.diag(variances[[0, 0, 1, 2, 2, 3]])
        return total

    def progress(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Along-track covariance [6, 6]."""
        along = self.along * snapped(np.sqrt(np.trace(steps[:3, :3])), self.overlap)
        total: NDArray[np.float64] = along**2 * steps
        return total


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


def bends(steps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far a track between two map images [...] leaves the straight way from one pose to the
    other if it bends anywhere, from their second moments [..., 6, 6]: the sagitta of an arc, length
    times turn over eight [m], and an eighth of the turn [rad]."""
    length, turn = (np.trace(steps[..., i : i + 3, i : i + 3], axis1=-2, axis2=-1) for i in (0, 3))
    return np.sqrt(length * turn) / 8, np.sqrt(turn) / 8


def snapped(spacing: NDArray[np.float64], overlap: float) -> NDArray[np.float64]:
    """Share of the spacing [...] that an answer is not interpolated over."""
    share: NDArray[np.float64] = np.minimum(1.0, spacing / max(overlap, 1e-6))
    return share


def background(rows: NDArray[np.int64], count: int = SAMPLE) -> NDArray[np.int64]:
    """A sample of map images, spread over the map, that a query's scores are normalized by."""
    return rows[evenly(len(rows), count)]


def z_scores(scores: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float64]:
    """Fine scores [n] of a query in standard deviations from their mean elsewhere.

    sample: its scores with the `background` [m]; the highest eighth is left out, as the query's own
    place may be among them.
    """
    elsewhere = np.sort(sample.astype(np.float64))[: len(sample) - len(sample) // 8]
    z: NDArray[np.float64] = (scores - elsewhere.mean()) / max(elsewhere.std(), MIN_STD)
    return z


class ScoreScale:
    """Mean and standard deviation of a query's scores over a map, from a sample of its images.

    sample: compressed coarse descriptors [n, d] (compression.py).
    """

    def __init__(self, sample: NDArray[np.float32]) -> None:
        self._sample = sample

    @classmethod
    def of_codes(cls, codes: NDArray[np.int8], steps: NDArray[np.float32]) -> ScoreScale:
        """From COARSE_SAMPLE of codes int8 [N, d], evenly, and their quantization steps [d]."""
        sample = codes[evenly(len(codes), COARSE_SAMPLE)]
        return cls(decode(sample, steps))

    def z(self, query: NDArray[np.float32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores [n] of a query [d] in standard deviations from their mean over the map."""
        others = (self._sample @ query).astype(np.float64)
        z: NDArray[np.float64] = (scores - others.mean()) / max(float(others.std()), 1e-6)
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
    from scipy.optimize import minimize  # which takes longer to import than a node its map

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

    solution = minimize(
        cost,
        np.zeros(columns.shape[1]),
        method="trust-exact",
        jac=True,
        hess=curvature,
        options={"gtol": GRADIENT},
    )
    theta = solution.x
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
        if version != FORMAT_VERSION:
            raise ModelError(f"format version {version}, expected {FORMAT_VERSION}")
        domains = {name: _read(part, name) for name, part in (values.pop("domains") or {}).items()}
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
    calibration = build(Calibration, values, where, ModelError)
    if min(calibration.slope, calibration.lead_slope) <= 0 or len(calibration.growth) != 4:
        raise ModelError(
            f"{where}: 'slope' expects more than 0, as 'lead_slope' does, 'growth' 4 numbers; got "
            f"{calibration}"
        )
    return calibration


def save_calibration(calibration: Calibration, model_dir: Path | str) -> Path:
    """Writes calibration.json, an old one is kept beside it; returns its path."""
    path, values = Path(model_dir) / FILE, asdict(calibration)
    for part in values["domains"].values():
        for name in ("domains", "keypoints", "lead_slope", "lead_intercept"):
            del part[name]
    with output_file(path, overwrite=True) as file:
        file.write(json.dumps({"format_version": FORMAT_VERSION, **values}, indent=2) + "\n")
    return path
