# SPDX-License-Identifier: Apache-2.0
"""Metrics: shares within pose thresholds, recall@N, accuracy@distance, error percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform

THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # metres, degrees (visuallocalization.net)
RECALL_DISTANCE = 5.0  # metres within which a map image counts as the right place
DISTANCES = (5.0, 10.0, 15.0)  # metres of accuracy@distance
RANKS = (1, 5, 10)  # N of recall@N


@dataclass(frozen=True)
class Criteria:
    """Criteria of a right answer."""

    thresholds: tuple[tuple[float, float], ...] = THRESHOLDS  # of poses [m], [deg]
    recall_distance: float = RECALL_DISTANCE  # of a right place, for recall@N [m]
    distances: tuple[float, ...] = DISTANCES  # for accuracy@distance [m]

    @property
    def on_map_distance(self) -> float:
        """Largest distance [m] at which an answer counts as right by any criterion.

        An image that is farther from every map image was taken off the map.
        """
        return max(self.recall_distance, *(metres for metres, _ in self.thresholds), 0.0)

    def names(self) -> list[str]:
        """Returns the names of the pose thresholds: '0.25 m 2°' …"""
        return [f"{m:g} m {d:g}°" for m, d in self.thresholds]


DEFAULTS = Criteria()


@dataclass(frozen=True)
class Metrics:
    """Figures of one condition. Shares are in 0…1, nan without data.

    All shares except `answered` are of the queries whose true pose is known, answered or not.
    Errors are of the answered ones.
    """

    queries: int  # number of images
    answered: float  # share of queries with an answer
    judged: int  # queries whose true pose is known
    within: dict[str, float]  # share within each pose threshold: "0.25 m 2°" → 0…1
    recall: dict[str, float]  # share with a right place among the first N: "R@1" → 0…1
    accuracy: dict[str, float]  # share whose error is less than a distance: "5 m" → 0…1
    median_error_m: float  # median of the translation errors [m]
    median_error_deg: float  # median of the rotation errors [°]
    p90_error_m: float  # 90th percentile of the translation errors [m]
    p90_error_deg: float  # 90th percentile of the rotation errors [°]

    @property
    def recall_at_1(self) -> float:
        return self.recall["R@1"]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def errors(
    truth: Sequence[Transform | None], answers: Sequence[Transform | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Translation [m] and rotation [°] errors [N] of answers to the same frames, in order.

    Infinite where there is no answer or no true pose.
    """
    metres, degrees = np.full((2, len(truth)), np.inf)
    pairs = [
        (i, a, b)
        for i, (a, b) in enumerate(zip(truth, answers, strict=True))
        if a is not None and b is not None
    ]
    if pairs:
        rows = [row for row, _, _ in pairs]
        gaps = np.stack([a.translation - b.translation for _, a, b in pairs])
        metres[rows] = np.linalg.norm(gaps, axis=1)
        first = Rotation.from_quat(np.stack([a.quaternion for _, a, _ in pairs]))
        second = Rotation.from_quat(np.stack([b.quaternion for _, _, b in pairs]))
        degrees[rows] = np.degrees((first.inv() * second).magnitude())
    return metres, degrees


def score(
    truth: Sequence[Transform | None],
    answers: Sequence[Transform | None],
    criteria: Criteria = DEFAULTS,
    rankings: Sequence[Sequence[Transform]] | None = None,
) -> Metrics:
    """Metrics of answers against true poses of the same frames.

    rankings: poses of the map images found for each frame, best first, for recall@N with N > 1;
    empty where there is no answer.
    """
    judged = np.array([pose is not None for pose in truth], dtype=bool)
    metres, degrees = (column[judged] for column in errors(truth, answers))
    answered = np.isfinite(metres)
    if rankings is None:
        recall = {"R@1": mean(metres <= criteria.recall_distance)}
    else:
        recall = recalls(truth, rankings, criteria.recall_distance)
    return Metrics(
        queries=len(truth),
        answered=mean([answer is not None for answer in answers]),
        judged=len(metres),
        within={
            name: mean((metres <= m) & (degrees <= d))
            for name, (m, d) in zip(criteria.names(), criteria.thresholds, strict=True)
        },
        recall=recall,
        accuracy={f"{limit:g} m": mean(metres < limit) for limit in criteria.distances},
        median_error_m=_quantile(metres[answered], 0.5),
        median_error_deg=_quantile(degrees[answered], 0.5),
        p90_error_m=_quantile(metres[answered], 0.9),
        p90_error_deg=_quantile(degrees[answered], 0.9),
    )


def recalls(
    truth: Sequence[Transform | None], rankings: Sequence[Sequence[Transform]], distance: float
) -> dict[str, float]:
    """Recall@N for RANKS: share of frames with a map image within `distance` [m] among the first N.

    An N beyond the longest ranking is left out: it would equal that of a shorter one.
    """
    firsts = []
    for pose, ranking in zip(truth, rankings, strict=True):
        if pose is not None:
            gaps = [np.linalg.norm(r.translation - pose.translation) for r in ranking]
            first = next((n for n, gap in enumerate(gaps) if gap <= distance), np.inf)
            firsts.append(first)
    longest = max((len(ranking) for ranking in rankings), default=0)
    return {f"R@{n}": mean(np.array(firsts) < n) for n in RANKS if n == 1 or n <= longest}


def _quantile(values: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")


def mean(values: Sequence[float] | NDArray[Any]) -> float:
    """Mean of numbers; nan without any."""
    return float(np.mean(values)) if len(values) else float("nan")
