# SPDX-License-Identifier: Apache-2.0
"""What a localizer answers to many images, and answers.csv."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from disam_ros.datasets.records import POSE_COLUMNS, ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ConfigError
from disam_ros.evaluation.prior_trials import Trial, check_noises, trials
from disam_ros.geometry import Transform
from disam_ros.localization import answer as localization
from disam_ros.localization.answer import KNOWN, UNKNOWN, UNREADABLE
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline

logger = logging.getLogger(__name__)


ANSWER_COLUMNS = (
    *("path", "stamp_ns", "domain", "matched_id", "matched_source", "score"),
    *(f"map_from_camera_{name}" for name in POSE_COLUMNS),
)


@dataclass(frozen=True)
class Answer:
    """What was said of one image. The best match is told also where the place is unknown.

    record: the image; its `map_from_camera` is the true pose, its `domain` the condition it was
    taken in. ranking: map images, best first: the candidates in their order, then further ones by
    coarse score; the nearest to the estimate first, where a sequence is followed. pose: the answer,
    map_from_camera, known or not. covariance: [6, 6] of map_from_base. prior: what a prior of the
    place did (prior.py); empty without one. trials: what made-up priors would have done.
    """

    record: ImageRecord
    outcome: str  # KNOWN, UNKNOWN, UNREADABLE or MISSING
    domain: str = ""  # whose encoders were used
    domain_reason: str = ""
    score: float = float("nan")  # fine similarity of the best, or the estimate's probability
    ranking: tuple[ImageRecord, ...] = ()
    pose: Transform | None = None
    covariance: np.ndarray | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    prior: str = ""
    trials: tuple[Trial, ...] = ()

    @property
    def best(self) -> ImageRecord | None:
        """The best match, known or not."""
        return self.ranking[0] if self.ranking else None

    @property
    def map_from_camera(self) -> Transform | None:
        """The answered pose; None unless the place is known."""
        return self.pose if self.outcome == KNOWN else None


def localize_all(
    localizer: Localizer,
    source: ImageSource,
    images: Iterable[PosedImage] | None = None,
    believe_domains: bool = False,
    ranks: int = 1,
    prior_noises: Sequence[float] = (),
) -> Iterator[Answer]:
    """Localize the images of a drive in order; those that cannot be read are logged.

    images, believe_domains: as of `localize_drive`. ranks: length of the ranking, at least the
    number of candidates. prior_noises: standard deviations [m] of simulated priors to try. Raises
    ConfigError where the configuration wants a prior: priors come from topics of the node.
    """
    check_noises(prior_noises)
    if (source_of_prior := localizer.config.prior.source) != "none":
        raise ConfigError(
            f"prior.source is '{source_of_prior}', but only the running node hears topics: set it "
            f"to none, or evaluate bags with --through-node"
        )
    pipeline = Pipeline(localizer)
    for record, answer in localize_drive(pipeline, source, images, believe_domains):
        if answer is None:
            yield Answer(record, UNREADABLE)
            continue
        ranking = localizer.ranking(pipeline.query, answer, ranks)
        tried = trials(localizer, pipeline.query, record, prior_noises)
        yield replace(answer_of(record, answer, ranking), trials=tried)


def answer_of(
    record: ImageRecord, answer: localization.Answer, ranking: Iterable[ImageRecord]
) -> Answer:
    """A localization as an answer."""
    return Answer(
        record=record,
        outcome=KNOWN if answer.known else UNKNOWN,
        domain=answer.domain.name,
        domain_reason=answer.domain.reason,
        score=answer.confidence,
        ranking=tuple(ranking),
        pose=answer.map_from_camera,
        covariance=answer.covariance,
        timings_ms=answer.timings_ms,
        prior=answer.prior,
    )


def write_answers(path: Path | str, answers: Iterable[Answer]) -> int:
    """Write answers.csv (ANSWER_COLUMNS), one row per image; returns the number answered.

    An unknown place has empty match, score and pose; an unreadable image has no domain, too.
    The file appears when it is complete.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    known = 0
    with part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ANSWER_COLUMNS)
        for answer in answers:
            record = answer.record
            cells = [record.source, record.stamp_ns or "", answer.domain, *_match_cells(answer)]
            writer.writerow(cells)
            known += answer.outcome == KNOWN
    part.replace(path)
    return known


def _match_cells(answer: Answer) -> list[object]:
    pose, best = answer.map_from_camera, answer.best
    if pose is None or best is None:
        return [""] * (3 + len(POSE_COLUMNS))
    values = [f"{v:.9g}" for v in (*pose.translation, *pose.quaternion)]
    return [best.id, best.source, f"{answer.score:.6f}", *values]
