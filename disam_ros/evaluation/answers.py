# SPDX-License-Identifier: Apache-2.0
"""Query results of a drive, and answers.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import POSE_COLUMNS, ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import output_file
from disam_ros.files.writing import number_text
from disam_ros.geometry import Transform
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import KNOWN, UNKNOWN, UNREADABLE, Answer

ANSWER_POSE = tuple(f"map_from_camera_{name}" for name in POSE_COLUMNS)
ANSWER_COLUMNS = (
    "path",
    "stamp_ns",
    "domain",
    "known",
    "probability",
    "matched_id",
    "matched_source",
    "score",
    *ANSWER_POSE,
)


@dataclass(frozen=True)
class QueryResult:
    """The result of one query image, known or not."""

    # The image with its ground truth: `map_from_camera`, and `domain`, the condition it shows.
    record: ImageRecord
    outcome: str  # KNOWN, UNKNOWN, UNREADABLE or MISSING
    domain: str = ""  # of the encoders
    domain_reason: str = ""  # why it was chosen
    probability: float = math.nan  # that the place is right and on the map
    score: float = math.nan  # fine similarity of the best candidate
    # Retrieved map images, best first: the candidates in their order, then others by coarse score;
    # with sequence tracking the map image of the estimate first.
    ranking: tuple[ImageRecord, ...] = ()
    pose: Transform | None = None  # map_from_camera, estimated
    covariance: NDArray[np.float64] | None = None  # [6, 6] of map_from_base
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # by stage
    prior: str = ""  # effect of a position prior (localization/prior.py); empty without one

    @property
    def best(self) -> ImageRecord | None:
        """The best match, known or not."""
        return self.ranking[0] if self.ranking else None

    @property
    def map_from_camera(self) -> Transform | None:
        """The estimated pose; None unless the place is known."""
        return self.pose if self.outcome == KNOWN else None


def localize_all(
    localizer: Localizer,
    source: ImageSource,
    images: Iterable[PosedImage] | None = None,
    believe_domains: bool = False,
    ranks: int = 1,
) -> Iterator[QueryResult]:
    """Localizes the images of a drive in order; unreadable ones are logged.

    images, believe_domains: see `evaluate_drive`. ranks: length of the ranking, at least the
    number of candidates. Raises ConfigError if the configuration wants a prior: priors come from
    topics of the node.
    """
    if (source_of_prior := localizer.config.prior.source) != "none":
        raise ConfigError(
            f"prior.source is '{source_of_prior}', but only the running node subscribes to "
            f"topics: set it to none, or evaluate bags with --through-node"
        )
    pipeline = Pipeline(localizer)
    for record, localized in localize_drive(pipeline, source, images, believe_domains):
        if localized is None or (query := localized.query) is None:
            yield QueryResult(record, UNREADABLE)
            continue
        answer = localized.answer
        ranking = localizer.ranking(query, answer, ranks)
        yield _result(record, answer, ranking)


def _result(record: ImageRecord, answer: Answer, ranking: Iterable[ImageRecord]) -> QueryResult:
    return QueryResult(
        record=record,
        outcome=KNOWN if answer.known else UNKNOWN,
        domain=answer.domain.name,
        domain_reason=answer.domain.reason,
        probability=answer.probability,
        score=answer.best.fine_score,
        ranking=tuple(_as_seen(answer, match) for match in ranking),
        pose=answer.map_from_camera,
        covariance=answer.covariance,
        timings_ms=answer.timings_ms,
        prior=answer.prior,
    )


def _as_seen(answer: Answer, match: ImageRecord) -> ImageRecord:
    """Returns a map image with the pose of a camera whose (warped) view equals that image."""
    if answer.lens_from_view is None or match.map_from_camera is None:
        return match
    return replace(match, map_from_camera=answer.of_camera(match.map_from_camera))


def write_answers(path: Path | str, answers: Iterable[QueryResult], overwrite: bool = False) -> int:
    """Writes answers.csv (ANSWER_COLUMNS), one row per image; returns the number answered.

    The pose of an unknown place is empty; of an unreadable image all but path and stamp is. The
    file appears when it is complete. overwrite: see `output_file`. Raises OutputError.
    """
    answered = 0
    with output_file(path, overwrite, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ANSWER_COLUMNS)
        for answer in answers:
            record = answer.record
            is_known = answer.outcome == KNOWN
            cells = [record.source, record.stamp_ns or "", answer.domain, str(is_known).lower()]
            writer.writerow([*cells, *_match_cells(answer)])
            answered += is_known
    return answered


def answer_values(answer: QueryResult) -> dict[str, object]:
    """Returns the columns of answers.csv as values of JSON, the pose as one; None: it has none."""
    pose, best = answer.map_from_camera, answer.best
    return {
        "path": answer.record.source,
        "stamp_ns": answer.record.stamp_ns or None,
        "domain": answer.domain or None,
        "known": answer.outcome == KNOWN,
        "probability": None if best is None else answer.probability,
        "matched_id": None if best is None else best.id,
        "matched_source": None if best is None else best.source,
        "score": None if best is None else answer.score,
        "map_from_camera": pose and [*pose.translation.tolist(), *pose.quaternion.tolist()],
    }


def _match_cells(answer: QueryResult) -> list[object]:
    """Returns the cells of probability, map image, score and pose."""
    pose, best = answer.map_from_camera, answer.best
    values = [""] * len(ANSWER_POSE)
    if pose is not None:
        values = [number_text(v) for v in (*pose.translation, *pose.quaternion)]
    if best is None:
        return ["", "", "", "", *values]
    return [f"{answer.probability:.6f}", best.id, best.source, f"{answer.score:.6f}", *values]
