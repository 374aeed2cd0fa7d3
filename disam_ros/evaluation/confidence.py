# SPDX-License-Identifier: Apache-2.0
"""Precision and recall over the score, and consistency (NEES) of the covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import chi2

from disam_ros.geometry import Transform
from disam_ros.uncertainty import offset

PLANE = np.ix_([0, 1, 5], [0, 1, 5])  # x, y and yaw of a covariance [6, 6]
CONFIDENCE = 0.95  # probability of the ellipsoid whose coverage is measured


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall over a threshold on the score, from the strictest to none.

    At `thresholds[i]` all queries with at least that score are answered: `precision[i]` of the
    answers are right, `recall[i]` of the queries that show a mapped place are answered correctly.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def area(self) -> float:
        """Area under the curve (average precision)."""
        steps = np.diff(self.recall, prepend=0.0)
        return float((steps * self.precision).sum())

    @property
    def recall_at_full_precision(self) -> float:
        """Highest recall at which no answer is wrong."""
        return float(self.recall[self.precision == 1.0].max(initial=0.0))

    def to_json(self) -> dict:
        curve = np.stack([self.thresholds, self.precision, self.recall], axis=1)
        return {
            "area": self.area,
            "recall_at_full_precision": self.recall_at_full_precision,
            "curve": curve.round(6).tolist(),
        }


def precision_recall(scores: np.ndarray, right: np.ndarray, possible: int) -> PrecisionRecall:
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

    1: consistent; above: the covariance is too small (overconfident). position has 3, pose 6
    degrees of freedom; mean and median are divided by those of the χ² distribution. plane_mean: of
    x, y and yaw, more informative on flat ground, where the height is never wrong. covered:
    share of the positions inside the 95 % ellipsoid. Bar-Shalom, Li and Kirubarajan, Estimation
    with Applications to Tracking and Navigation (2001), 5.4.
    """

    answers: int
    position_mean: float
    position_median: float
    pose_mean: float
    pose_median: float
    plane_mean: float
    covered: float

    def to_json(self) -> dict:
        return asdict(self)


def consistency(
    truth: Sequence[Transform], answers: Sequence[Transform], covariances: Sequence[np.ndarray]
) -> Consistency | None:
    """NEES of `map_from_base` with covariances [6, 6] about the map's axes; None without any."""
    if not len(answers):
        return None
    gaps = np.stack([offset(a, b) for a, b in zip(truth, answers, strict=True)])
    every = np.stack(covariances)
    position = normalized(gaps[:, :3], every[:, :3, :3])
    pose = normalized(gaps, every)
    plane = normalized(gaps[:, PLANE[1][0]], every[:, PLANE[0], PLANE[1]])
    return Consistency(
        answers=len(gaps),
        position_mean=float(position.mean() / 3),
        position_median=float(np.median(position) / chi2.median(3)),
        pose_mean=float(pose.mean() / 6),
        pose_median=float(np.median(pose) / chi2.median(6)),
        plane_mean=float(plane.mean() / 3),
        covered=float((position <= chi2.ppf(CONFIDENCE, 3)).mean()),
    )


def normalized(gaps: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Errors [N, D] and covariances [N, D, D] → NEES, eᵀ Σ⁻¹ e [N]."""
    return np.einsum("nd,nd->n", gaps, np.linalg.solve(covariances, gaps[..., None])[..., 0])
