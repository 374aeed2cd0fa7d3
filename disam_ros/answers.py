# SPDX-License-Identifier: Apache-2.0
"""Localizing many images offline, and answers.csv."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from disam_ros import image
from disam_ros.dataset import POSE_COLUMNS, Dataset, ImageRecord
from disam_ros.errors import ImageError
from disam_ros.localizer import Localization, Localizer

logger = logging.getLogger(__name__)

ANSWER_COLUMNS = (
    *("path", "stamp_ns", "domain", "matched_id", "matched_source", "score"),
    *(f"map_from_camera_{name}" for name in POSE_COLUMNS),
)


@dataclass(frozen=True)
class Query:
    """An image to localize. domain: a fixed domain, or None to choose by clock and sun."""

    path: Path
    stamp_ns: int | None = None
    camera: str | None = None
    domain: str | None = None


def dataset_queries(dataset: Dataset, use_domains: bool) -> list[Query]:
    """The images of a dataset directory; use_domains: believe its domain names."""

    def query(record: ImageRecord) -> Query:
        domain = record.domain if use_domains else None
        return Query(dataset.path(record), record.stamp_ns, record.camera, domain)

    return [query(record) for record in dataset.records]


def localize_all(
    localizer: Localizer, queries: Iterable[Query]
) -> Iterator[tuple[Query, Localization | None]]:
    """Localize images one after the other; None for one that cannot be read, which is logged."""
    for query in queries:
        answer = None
        try:
            picture = image.read(query.path)
            answer = localizer.localize(picture, query.stamp_ns, query.camera, domain=query.domain)
        except ImageError as error:
            logger.warning("not localized: %s", error)
        yield query, answer


def write_answers(path: Path | str, answers: Iterable[tuple[Query, Localization | None]]) -> int:
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
        for query, answer in answers:
            stamp = "" if query.stamp_ns is None else query.stamp_ns
            domain = "" if answer is None else answer.domain.name
            writer.writerow([query.path, stamp, domain, *_match_cells(answer)])
            known += answer is not None and answer.known
    part.replace(path)
    return known


def _match_cells(answer: Localization | None) -> list[object]:
    pose = None if answer is None else answer.map_from_camera
    if answer is None or pose is None:
        return [""] * (3 + len(POSE_COLUMNS))
    best = answer.best
    values = [f"{v:.9g}" for v in (*pose.translation, *pose.quaternion)]
    return [best.record.id, best.record.source, f"{best.fine_score:.6f}", *values]
