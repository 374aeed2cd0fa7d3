# SPDX-License-Identifier: Apache-2.0
"""Answers with their ground truth, and verdicts on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.evaluation.answers import QueryResult
from disam_ros.evaluation.confidence import Estimate
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.metrics import Criteria
from disam_ros.geometry import Transform
from disam_ros.localization.query import KNOWN

FEWEST = 10  # answers that may have an error in common
CONSTANT_M, CONSTANT_DEG = 1.0, 10.0  # common errors that are named

# Verdicts
RIGHT = "right"  # within the recall distance of the true pose
WRONG = "wrong"  # farther away
UNANSWERED = "unanswered"  # the place counts as unknown, or the image was lost or unreadable
ANSWERED = "answered"  # the true pose is not known


@dataclass(frozen=True)
class EvaluatedFrame:
    """An image of a drive, its answer and its true pose; all poses are map_from_base."""

    drive: Drive  # to which the image belongs
    answer: QueryResult  # to the image
    truth: Transform | None  # the true pose; None where it is unknown
    best: Transform | None  # pose of the best match, whether or not the place counts as known
    ranking: tuple[Transform, ...]  # poses of the retrieved map images
    bound: Transform | None  # pose of the nearest map image of the same camera
    on_map: bool  # a map image of its camera lies within `Criteria.on_map_distance`
    error_m: float  # of `best`; infinite without a match or without a true pose
    error_deg: float  # of `best`; infinite without a match or without a true pose

    @property
    def pose(self) -> Transform | None:
        """The answered pose; None unless the place counts as known."""
        return self.best if self.answer.outcome == KNOWN else None


def verdict(frame: EvaluatedFrame, criteria: Criteria) -> str:
    """Returns RIGHT, WRONG, UNANSWERED or ANSWERED."""
    if frame.pose is None:
        return UNANSWERED
    if frame.truth is None:
        return ANSWERED
    return RIGHT if frame.error_m <= criteria.recall_distance else WRONG


@dataclass(frozen=True)
class Counts:
    """Numbers of images whose true pose is known."""

    images: int  # all of them
    known: int  # whose place counts as known
    wrong: int  # whose answer is farther than the recall distance from the true pose
    worst_m: float  # error of the farthest wrong answer [m]; nan without any

    @property
    def known_share(self) -> float:
        return self.known / self.images if self.images else math.nan

    @property
    def wrong_share(self) -> float:
        return self.wrong / self.images if self.images else math.nan


def count(frames: Sequence[EvaluatedFrame], criteria: Criteria) -> Counts:
    """Counts the frames whose true pose is known."""
    posed = [frame for frame in frames if frame.truth is not None]
    wrong = [frame.error_m for frame in posed if verdict(frame, criteria) == WRONG]
    answered = sum(frame.pose is not None for frame in posed)
    return Counts(len(posed), answered, len(wrong), max(wrong, default=math.nan))


def estimates(frames: Sequence[EvaluatedFrame]) -> list[Estimate]:
    """Collects true pose, answer and covariance of the frames that have all three."""
    return [
        (f.truth, f.pose, f.answer.covariance)
        for f in frames
        if f.truth is not None and f.pose is not None and f.answer.covariance is not None
    ]


def constant_errors(frames: Sequence[EvaluatedFrame]) -> list[str]:
    """Describes a rotation and a lever arm that the answers have in common; empty: neither.

    They are errors of extrinsics or of the ground truth: errors of retrieval scatter.
    """
    errors = [
        f.truth.inverse() @ f.pose for f in frames if f.truth is not None and f.pose is not None
    ]
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
    """Returns whether the true pose of any frame is known."""
    return any(frame.truth is not None for frame in frames)
