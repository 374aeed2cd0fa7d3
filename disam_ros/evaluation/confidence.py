# SPDX-License-Identifier: Apache-2.0
"""Precision and recall over the probability, and consistency (NEES) of the covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from disam_ros.geometry import Transform, offset

# True pose, answer (map_from_base) and covariance [6, 6] about the map's axes.
Estimate = tuple[Transform, Transform, NDArray[np.float64]]
PLANE = np.ix_([0, 1, 5], [0, 1, 5])  # x, y and yaw of a covariance [6, 6]
CONFIDENCE = 0.95  # probability of the ellipsoid whose coverage is measured


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall over a threshold on the probability, from the strictest to none.

    At `thresholds[i]` all queries with at least that probability are answered: `precision[i]` of
    the answers are right, `recall[i]` of the queries that show a mapped place have a right answer.
    """

    thresholds: NDArray[np.float64]  # probabilities [K], falling
    precision: NDArray[np.float64]  # [K] in 0…1
    recall: NDArray[np.float64]  # [K] in 0…1

    @property
    def area(self) -> float:
        """Area under the curve (average precision)."""
        steps = np.diff(self.recall, prepend=0.0)
        return float((steps * self.precision).sum())

    @property
    def recall_at_full_precision(self) -> float:
        """Highest recall at which no answer is wrong."""
        return float(self.recall[self.precision == 1.0].max(initial=0.0))

    def to_json(self) -> dict[str, object]:
        curve = np.stack([self.thresholds, self.precision, self.recall], axis=1)
        return {
            "area": self.area,
            "recall_at_full_precision": self.recall_at_full_precision,
            "curve": curve.round(6).tolist(),
        }


def precision_recall(
    scores: NDArray[np.float64], right: NDArray[np.bool_], possible: int
) -> PrecisionRecall:
    """Precision–recall curve of answers with scores [N], which are right or not (bool [N]).

    possible: number of queries whose place is in the map. Queries of equal score are answered
    together.
    """
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    last = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.zeros(0, bool)
    hits = np.cumsum(right)[last]
    answered = np.flatnonzero(last) + 1
    recall = hits / possible if possible else np.zeros(len(hits))
    return PrecisionRecall(scores[last], hits / answered, recall)


@dataclass(frozen=True)
class Consistency:
    """Normalized estimation error squared (NEES), eᵀ Σ⁻¹ e, over its expectation.

    1: consistent; above: the covariance is too small (overconfident). Means and medians are divided
    by those of the χ² distribution. Bar-Shalom, Li and Kirubarajan, Estimation with Applications to
    Tracking and Navigation (2001), 5.4.
    """

    answers: int  # number of answers with truth and covariance
    position_mean: float  # of x, y, z
    position_median: float  # of x, y, z
    pose_mean: float  # of all six degrees of freedom
    pose_median: float  # of all six degrees of freedom
    plane_mean: float  # of x, y and yaw: on flat ground the height is never wrong
    covered: float  # share of the positions inside the 95 % ellipsoid

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def consistency(estimates: Sequence[Estimate]) -> Consistency | None:
    """NEES of estimates of `map_from_base`; None without any."""
    if not estimates:
        return None
    gaps, covariances = estimation_errors(estimates)
    position = normalized(gaps[:, :3], covariances[:, :3, :3])
    pose = normalized(gaps, covariances)
    plane = normalized(gaps[:, PLANE[1][0]], covariances[:, PLANE[0], PLANE[1]])
    return Consistency(
        answers=len(gaps),
        position_mean=float(position.mean() / 3),
        position_median=float(np.median(position) / chi2.median(3)),
        pose_mean=float(pose.mean() / 6),
        pose_median=float(np.median(pose) / chi2.median(6)),
        plane_mean=float(plane.mean() / 3),
        covered=float((position <= chi2.ppf(CONFIDENCE, 3)).mean()),
    )


def estimation_errors(
    estimates: Sequence[Estimate],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stacks errors about the map's axes [N, 6] and covariances [N, 6, 6] of estimates."""
    gaps = np.stack([offset(truth, answer) for truth, answer, _ in estimates])
    return gaps, np.stack([covariance for *_, covariance in estimates])


def normalized(gaps: NDArray[np.float64], covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalized squared errors eᵀ Σ⁻¹ e [N] of errors [N, D] with covariances [N, D, D]."""
    weighted = np.linalg.solve(covariances, gaps[..., None])[..., 0]
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", gaps, weighted)
    return squares
