# SPDX-License-Identifier: Apache-2.0
"""An answer with its ground truth, and whether it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from disam_ros.evaluation.answers import QueryResult
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.metrics import Criteria
from disam_ros.geometry import Transform
from disam_ros.localization.answer import KNOWN

# Verdicts
RIGHT = "right"  # within the recall distance of the true pose
WRONG = "wrong"  # farther away
UNANSWERED = "unanswered"  # the place counts as unknown, or the image was lost or unreadable
ANSWERED = "answered"  # the true pose is not known


@dataclass(frozen=True)
class EvaluatedFrame:
    """An image of a drive, its answer and its true pose; all poses are map_from_base.

    best: pose of the best match, answered only where the place counts as known. ranking: poses of
    the retrieved map images. bound: pose of the nearest map image of the same camera. error_m,
    error_deg: of `best`; infinite without a match or without a true pose.
    """

    drive: Drive
    answer: QueryResult
    truth: Transform | None
    best: Transform | None
    ranking: tuple[Transform, ...]
    bound: Transform | None
    on_map: bool  # a map image lies within the recall distance
    error_m: float
    error_deg: float

    @property
    def given(self) -> Transform | None:
        """The answered pose; None unless the place counts as known."""
        return self.best if self.answer.outcome == KNOWN else None


def verdict(frame: EvaluatedFrame, criteria: Criteria) -> str:
    """RIGHT, WRONG, UNANSWERED or ANSWERED."""
    if frame.given is None:
        return UNANSWERED
    if frame.truth is None:
        return ANSWERED
    return RIGHT if frame.error_m <= criteria.recall_distance else WRONG


def has_truth(frames: Sequence[EvaluatedFrame]) -> bool:
    """Whether the true pose of any frame is known."""
    return any(frame.truth is not None for frame in frames)
