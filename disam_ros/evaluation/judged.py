# SPDX-License-Identifier: Apache-2.0
"""One answer beside its ground truth, and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass

from disam_ros.evaluation.answers import Answer
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.metrics import Criteria
from disam_ros.geometry import Transform
from disam_ros.localization.answer import KNOWN


@dataclass(frozen=True)
class Judged:
    """An answer beside the truth; poses are map_from_base. error_m, error_deg: of the best match.

    best: what is answered if the place counts as known. bound: nearest map image of the camera.
    """

    drive: Drive
    answer: Answer
    truth: Transform | None
    best: Transform | None
    ranking: tuple[Transform, ...]
    bound: Transform | None
    on_map: bool  # a map image lies within the recall distance
    error_m: float  # infinite: no match, or the truth is unknown
    error_deg: float

    @property
    def given(self) -> Transform | None:
        """The answer; None unless the place is known."""
        return self.best if self.answer.outcome == KNOWN else None


RIGHT = "right"  # within the recall distance of the true pose

WRONG = "wrong"  # farther away

UNANSWERED = "unanswered"  # the place counts as unknown, or nothing was said

UNTOLD = "answered"  # no true pose is known


def verdict(frame: Judged, criteria: Criteria) -> str:
    """RIGHT, WRONG, UNANSWERED or UNTOLD."""
    if frame.given is None:
        return UNANSWERED
    if frame.truth is None:
        return UNTOLD
    return RIGHT if frame.error_m <= criteria.recall_distance else WRONG


def has_truth(frames: list[Judged]) -> bool:
    """Whether any true pose is known."""
    return any(frame.truth is not None for frame in frames)
