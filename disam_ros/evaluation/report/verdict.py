# SPDX-License-Identifier: Apache-2.0
"""Is an answer right? By the recall distance, as in all figures of places."""

from __future__ import annotations

from disam_ros.evaluation.judge import Judged
from disam_ros.evaluation.metrics import Criteria

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
