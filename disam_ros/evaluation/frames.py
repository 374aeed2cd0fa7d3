# SPDX-License-Identifier: Apache-2.0
"""An answer with its ground truth, and whether it is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.evaluation.answers import QueryResult
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.metrics import Criteria
from disam_ros.geometry import Transform
from disam_ros.localization.answer import KNOWN

FEWEST = 10  # answers that may have an error in common
CONSTANT_M, CONSTANT_DEG = 1.0, 10.0  # common errors that are named

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
    on_map: bool  # a map image of its camera lies within `Criteria.on_map_distance`
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


@dataclass(frozen=True)
class Counts:
    """Images whose true pose is known. known: those whose place counts as known; wrong: of these,
    the answers farther than the recall distance, worst_m: the farthest of them, nan without any."""

    images: int
    known: int
    wrong: int
    worst_m: float

    @property
    def known_share(self) -> float:
        return self.known / self.images if self.images else math.nan

    @property
    def wrong_share(self) -> float:
        return self.wrong / self.images if self.images else math.nan


def count(frames: Sequence[EvaluatedFrame], criteria: Criteria) -> Counts:
    """Counts of those frames whose true pose is known."""
    posed = [frame for frame in frames if frame.truth is not None]
    wrong = [frame.error_m for frame in posed if verdict(frame, criteria) == WRONG]
    known = sum(frame.given is not None for frame in posed)
    return Counts(len(posed), known, len(wrong), max(wrong, default=math.nan))


def constant_errors(frames: Sequence[EvaluatedFrame]) -> list[str]:
    """A rotation and a lever arm that the answers have in common, in sentences; empty: neither.

    They are errors of extrinsics or of the ground truth: those of places scatter.
    """
    pairs = [(f.truth, f.given) for f in frames]
    errors = [a.inverse() @ b for a, b in pairs if a is not None and b is not None]
    if len(errors) < FEWEST:
        return []
    notes = []
    turns = Rotation.from_quat(np.stack([error.quaternion for error in errors]))
    spread = (turns.mean().inv() * turns).magnitude()
    common = turns[spread <= np.median(spread)].mean()  # of the half that agrees best
    degrees, spread = np.degrees(common.magnitude()), (common.inv() * turns).magnitude()
    if degrees > CONSTANT_DEG and np.degrees(np.median(spread)) < degrees / 2:
        axis = common.as_rotvec() / common.magnitude()
        notes.append(
            f"the answers are turned by a constant {degrees:.0f}° about the axis "
            f"({', '.join(f'{v:.2f}' for v in axis)}) of the vehicle: extrinsics of the map, of "
            "the drive or of the ground truth are wrong"
        )
    offsets = np.stack([error.translation for error in errors])
    arm = np.median(offsets, axis=0)
    metres = float(np.linalg.norm(arm))
    if metres > CONSTANT_M and np.median(np.linalg.norm(offsets - arm, axis=1)) < metres / 2:
        notes.append(
            f"the answers lie a constant {metres:.1f} m ({arm[0]:.1f} ahead, {arm[1]:.1f} to the "
            f"left, {arm[2]:.1f} above) from the true poses: a lever arm of camera or ground truth "
            "is wrong, or the drive took another lane"
        )
    return notes


def has_truth(frames: Sequence[EvaluatedFrame]) -> bool:
    """Whether the true pose of any frame is known."""
    return any(frame.truth is not None for frame in frames)
