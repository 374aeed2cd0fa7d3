# SPDX-License-Identifier: Apache-2.0
"""Evidence of inliers: likelihood ratio of a place against elsewhere, and errors of a pose.

Keypoints agree with wrong places, too, the more of them the more repetitive the map and the worse
the descriptors. So an image's inliers n count in relation to a reference m: the most inliers it has
with any other place that was verified, and at least those that the map's images have with other
places (mapping/repetition.py), as images off the map have:

    log p(n | this place) / p(n | elsewhere) = log(f + (1 − f) ((n + s) / (m + s))^a)

A tie says nothing. Among images that were chosen already, as candidates or as views of one place,
each inlier counts beside those of chance: their log-weight is GAIN log(1 + n / m) with m of the
map. f is the share of images that fail to match their place, as at night: it bounds
what few inliers say against a place. The slope a and f are learned by logistic regression on images
with known places, for each kind of matches (benchmark/accuracy/inliers.py); the ratio is at most
the logarithm of their number, since rarer errors could not have been seen.

The covariance of a pose is that of its solve (absolute_pose.py) plus what its keypoints have in
common, MAP_ERRORS. `disam calibrate` may replace these by what it learns from a drive with poses:
also errors that grow as fewer keypoints agree, or with the distance from the map image.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

SMOOTHING = 5.0  # inliers s added to both numbers: a few more than few say little
MIN_REPETITION = 10.0  # inliers that some pose always fits
MIN_FAILURES = 0.05  # smallest share f, so that the ratio is at least −3
GAIN = 2.0  # of the log-weight of inliers, chosen on webcams and the rendered town of seed 50
DEG_PER_M = 3.0  # standard deviation of a pose's rotation for each metre of its position's


@dataclass(frozen=True)
class InlierRatio:
    """slope: a; failures: f of the likelihood ratio; high: its largest value."""

    slope: float
    failures: float
    high: float

    def __call__(self, inliers: Floats, reference: Floats) -> Floats:
        """Log likelihood ratios [n] of inliers [n] against a reference [n]."""
        lead = self.slope * np.log((inliers + SMOOTHING) / (reference + SMOOTHING))
        ratios = _mixture(lead, self.failures)
        limited: Floats = np.minimum(ratios, self.high)
        return limited


LARGEST = 1e4  # number of PoseErrors


@dataclass(frozen=True)
class PoseErrors:
    """Errors of poses from n inliers: standard deviations over PnP's by the factor `scale`, and
    added to them metres [m] and degrees [deg], few_m / n² [m] with DEG_PER_M for each metre, and
    `depths`, a share of the distance from the map image whose depths were used."""

    scale: float
    metres: float
    degrees: float
    few_m: float
    depths: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError unless all numbers are from 0 to LARGEST, and the scale is not 0,
        TypeError for what is no number."""
        numbers = np.array(astuple(self), float)
        if not (numbers.min() >= 0 and numbers.max() <= LARGEST and self.scale > 0):  # nan neither
            raise ValueError(f"expected errors of poses from 0 to {LARGEST:g}, got {self}")

    def covariance(
        self, covariance: Floats, inliers: int | NDArray[np.int64], distance: float | Floats
    ) -> Floats:
        """Covariances [..., 6, 6] of poses from PnP's, by their inliers and distances from the map
        image [m], [...]."""
        few = self.few_m / np.maximum(1, np.asarray(inliers, float)) ** 2
        metres = self.metres**2 + few**2 + np.square(self.depths * np.asarray(distance, float))
        radians = np.radians(self.degrees) ** 2 + np.radians(DEG_PER_M * few) ** 2
        variances = np.stack([metres] * 3 + [radians] * 3, -1)
        whole: Floats = self.scale**2 * covariance + variances[..., None] * np.eye(6)
        return whole


# Neighbouring keypoints err alike, which doubles the variance of the solve; the map's own poses err
# by a centimetre and 0.04°, as those of a good trajectory do from one image to the next.
MAP_ERRORS = PoseErrors(scale=2**0.5, metres=0.01, degrees=0.04, few_m=0.0)


@dataclass(frozen=True)
class InlierModel:
    """What the inliers of a kind of matches say.

    ratio: against the most inliers elsewhere. repetition: of a map that does not know its own.
    """

    ratio: InlierRatio
    repetition: float

    def log_ratio(self, inliers: Floats, others: Floats, repetition: float | None) -> Floats:
        """Log likelihood ratios [n] of candidates with these inliers [n] against elsewhere, on the
        map and off it.

        others: most inliers at any other place that was verified [n]; repetition: of the map, None
        where it is unknown.
        """
        return self.ratio(inliers, np.maximum(others, self.by_chance(repetition)))

    def log_weight(self, inliers: int, repetition: float | None) -> float:
        """Log-weight ≥ 0 of an image among other candidates, by its inliers; `repetition` as of
        `log_ratio`."""
        return GAIN * float(np.log1p(inliers / self.by_chance(repetition)))

    def by_chance(self, repetition: float | None) -> float:
        """Inliers that a map's images have with other places; its repetition, None if unknown."""
        return max(MIN_REPETITION, self.repetition if repetition is None else repetition)


def fit_ratio(
    right: tuple[Floats, Floats], wrong: tuple[Floats, Floats], images: int
) -> InlierRatio:
    """Logistic regression of both classes, equally weighted.

    right, wrong: inliers and references [n] of candidates that show the image's place, or another.
    images: number of images that they are of.
    """
    from scipy.optimize import minimize

    inliers, reference = (np.concatenate(pair) for pair in zip(right, wrong, strict=True))
    label = np.repeat([1.0, 0.0], [len(right[0]), len(wrong[0])])
    weight = np.where(label == 1.0, 0.5 / len(right[0]), 0.5 / len(wrong[0]))
    lead = np.log((inliers + SMOOTHING) / (reference + SMOOTHING))

    def failures(value: float) -> float:
        return MIN_FAILURES + (1.0 - MIN_FAILURES) * float(expit(value))

    def cost(theta: Floats) -> float:
        ratios = _mixture(np.exp(theta[0]) * lead, failures(theta[1]))
        return float(weight @ (np.logaddexp(0.0, ratios) - label * ratios))

    minimum = minimize(cost, np.zeros(2), method="Nelder-Mead").x
    high = max(1.0, float(np.log(images)))
    return InlierRatio(float(np.exp(minimum[0])), failures(minimum[1]), high)


def fit_errors(
    errors: Floats,
    covariances: Floats,
    inliers: NDArray[np.int64],
    distances: Floats,
    least: tuple[float, float],
) -> PoseErrors:
    """The PoseErrors under which errors [N, 6] (m, rad) are likeliest as Gaussians.

    covariances: PnP's [N, 6, 6]. distances: from the map images [N] [m]. least: accuracy of the
    true poses [m], [deg], below which errors cannot be known.
    """

    from scipy.optimize import minimize

    def pose_errors(theta: Floats) -> PoseErrors:
        scale, few, metres, degrees, depths = map(float, np.exp(theta))
        metres, degrees = np.hypot(least, (metres, degrees)).tolist()
        return PoseErrors(scale, metres, degrees, few, depths)

    def cost(theta: Floats) -> float:
        wholes = pose_errors(theta).covariance(covariances, inliers, distances)
        squares = np.einsum("ni,nij,nj->n", errors, np.linalg.inv(wholes), errors)
        return float(np.mean(squares + np.linalg.slogdet(wholes)[1]))

    start = np.log([1.0, 10.0, 0.02, 0.1, 0.01])
    bounds = [(-12.0, 9.0)] * len(start)  # within LARGEST
    return pose_errors(minimize(cost, start, method="L-BFGS-B", bounds=bounds).x)


def _mixture(lead: Floats, failures: float) -> Floats:
    """log(f + (1 − f) exp(lead))."""
    mixed: Floats = np.logaddexp(np.log(failures), np.log1p(-failures) + lead)
    return mixed


# SIFT's ratio is fitted to images on and off the map by python -m benchmark.accuracy.inliers. Those
# of the others were learned once, on 25 webcams by day, dusk and night and on the rendered town of
# seed 50, whose images show other places of the map. `repetition`: of the most repetitive map.
MODELS = {  # by local features
    "sift": InlierModel(
        ratio=InlierRatio(slope=16.0, failures=0.16, high=7.6),
        repetition=12.0,
    ),
    "orb": InlierModel(
        ratio=InlierRatio(slope=4.8, failures=0.05, high=5.4),
        repetition=12.0,
    ),
    "xfeat": InlierModel(
        ratio=InlierRatio(slope=7.2, failures=0.05, high=5.4),
        repetition=51.0,
    ),
    # Webcams only.
    "aliked": InlierModel(
        ratio=InlierRatio(slope=8.8, failures=0.05, high=4.8),
        repetition=48.0,
    ),
}
