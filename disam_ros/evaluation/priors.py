# SPDX-License-Identifier: Apache-2.0
"""Metrics with simulated position priors, by their error (prior_trials.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from disam_ros.evaluation.metrics import Criteria, errors
from disam_ros.geometry import Transform
from disam_ros.localization.prior import OFF_MAP, OVERRULED

if TYPE_CHECKING:
    from disam_ros.evaluation.frames import EvaluatedFrame


@dataclass(frozen=True)
class PriorFigures:
    """Figures of one condition with priors of one error. Shares are of queries with a true pose.

    noise_m: standard deviation in x and in y [m]; None: no prior. recall_at_1, median_error_m: of
    the answers, as in Metrics. local_recall_at_1: recall@1 of the best map image near the prior;
    without a prior, of the whole map. overruled, off_map: share of the priors with that effect.
    """

    noise_m: float | None
    queries: int
    recall_at_1: float
    median_error_m: float
    local_recall_at_1: float
    overruled: float
    off_map: float

    @property
    def name(self) -> str:
        return "none" if self.noise_m is None else f"{self.noise_m:g} m"

    def to_json(self) -> dict:
        return asdict(self)


def prior_figures(frames: Sequence[EvaluatedFrame], criteria: Criteria) -> list[PriorFigures]:
    """Figures without a prior, then by noise in the order of the trials; empty without trials."""
    posed = [frame for frame in frames if frame.truth is not None]
    noises = list(dict.fromkeys(t.noise for frame in posed for t in frame.answer.trials))
    if not noises:
        return []
    distance = criteria.recall_distance
    given = np.array([np.inf if frame.given is None else frame.error_m for frame in posed])
    recall, median = float(np.mean(given <= distance)), _median(given)
    found = [PriorFigures(None, len(posed), recall, median, recall, 0.0, 0.0)]
    for noise in noises:
        made = [next((t for t in f.answer.trials if t.noise == noise), None) for f in posed]
        best = _errors(posed, [t and t.answer for t in made])
        local = _errors(posed, [t and t.local for t in made])
        effects = [t.effect if t else "" for t in made]
        found.append(
            PriorFigures(
                noise_m=noise,
                queries=len(posed),
                recall_at_1=float(np.mean(best <= distance)),
                median_error_m=_median(best),
                local_recall_at_1=float(np.mean(local <= distance)),
                overruled=effects.count(OVERRULED) / len(posed),
                off_map=effects.count(OFF_MAP) / len(posed),
            )
        )
    return found


def _errors(frames: Sequence[EvaluatedFrame], poses: Sequence[Transform | None]) -> np.ndarray:
    """Position errors [N] of the vehicle in metres; infinite where there is no answer."""
    given = [
        pose and frame.drive.map_from_base(frame.answer.record, pose)
        for frame, pose in zip(frames, poses, strict=True)
    ]
    return errors([frame.truth for frame in frames], given)[0]


def _median(metres: np.ndarray) -> float:
    """Median over the answered ones."""
    known = metres[np.isfinite(metres)]
    return float(np.median(known)) if len(known) else float("nan")
