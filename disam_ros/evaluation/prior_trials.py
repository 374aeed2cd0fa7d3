# SPDX-License-Identifier: Apache-2.0
"""Localization with simulated position priors, the true position plus Gaussian noise, and its
figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import ConfigError
from disam_ros.evaluation.metrics import Criteria, errors
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.prior import OFF_MAP, OVERRULED, PositionPrior
from disam_ros.localization.query import Frame, Query

if TYPE_CHECKING:
    from disam_ros.evaluation.frames import EvaluatedFrame

LOCAL_RADIUS = 50.0  # of the local search [m] (Xia et al., RA-L 2021)
MIN_DEVIATION = 0.01  # standard deviation of a prior without noise [m]
SEED = 0


@dataclass(frozen=True)
class Trial:
    """One image localized alone with a simulated prior.

    noise: standard deviation of the prior in x and in y [m]; None: without a prior. answer:
    map_from_camera, None where the place is unknown. effect: of the prior (prior.py). local: that
    of the answer, known or not, within LOCAL_RADIUS of the prior's mean, or without a prior in the
    whole map; None where there is no map image.
    """

    noise: float | None
    answer: Transform | None
    effect: str
    local: Transform | None


def check_noises(noises: Sequence[float]) -> None:
    """Raise ConfigError for one that is negative or not finite."""
    if not all(np.isfinite(noise) and noise >= 0 for noise in noises):
        raise ConfigError(f"noises of a prior expect metres from 0, got {list(noises)}")


def trials(
    pipeline: Pipeline, query: Query, record: ImageRecord, noises: Sequence[float]
) -> tuple[Trial, ...]:
    """Trials of one image, without a prior and one per noise; empty without a true pose.

    pipeline: of single images: sequences would carry a prior on to the next image. The error is
    drawn once per image, seeded by the record's id, and scaled by each noise, so that
    noises are compared on the same draws.
    """
    if record.map_from_camera is None:
        return ()
    error = np.random.default_rng([SEED, record.id]).standard_normal(2)
    truth = record.map_from_camera.translation[:2]
    frame = replace(query.frame, domain=query.domain.name)
    plain = pipeline.process([Shot(frame)])[0].answer
    without = Trial(None, _known(plain), plain.prior, plain.map_from_camera)
    tried = [_trial(pipeline, frame, truth + noise * error, noise) for noise in noises]
    return without, *tried


def _trial(pipeline: Pipeline, frame: Frame, place: np.ndarray, noise: float) -> Trial:
    prior = PositionPrior(place, max(noise, MIN_DEVIATION) ** 2 * np.eye(2))
    answer = pipeline.process([Shot(frame, prior=prior)])[0].answer
    return Trial(noise, _known(answer), answer.prior, None)


def _known(answer: Answer) -> Transform | None:
    return answer.map_from_camera if answer.known else None


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
    distance, found = criteria.recall_distance, []
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
