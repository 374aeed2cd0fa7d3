# SPDX-License-Identifier: Apache-2.0
"""When a consumer of poses needs an initial pose, and when it is lost.

All times are those of messages. Nothing here knows ROS.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

import numpy as np

from disam_ros.geometry import PoseWithCovariance
from disam_ros.localization.query import Answer
from disam_ros.pose_buffer import NANOSECONDS
from disam_ros.slam.agreement import (
    GATE,
    Motion,
    StampedPose,
    Streak,
    distance_squared,
)

LARGEST_DEVIATION = 5.0  # 1 σ in x or y of an answer that is confident [m]
LEAST = np.array([1.0, 1.0, 1.0, 0.2, 0.2, 0.2])  # 1 σ of a consumer's pose at least [m, rad] …
MOST = np.array([5.0, 5.0, 5.0, 0.5, 0.5, 0.5])  # … and at most: one that is less sure is lost
GRACE_NS = 2 * NANOSECONDS  # after an initial pose, until the consumer must have taken it
PATIENCE_NS = 10 * NANOSECONDS  # until it must have published a pose
PAUSE_NS = 10 * NANOSECONDS  # between two initial poses, doubled with each that did not help
LONGEST_PAUSE_NS = 320 * NANOSECONDS


class State(Enum):
    """States of the consumer, in words."""

    WAITING = "waiting for answers that agree"
    SILENT = "started; it has not published a pose since"
    MUTE = "silent"  # for PATIENCE_NS
    AGREES = "agrees"
    DOUBTED = "contradicts the last answers"
    LOST = "lost"
    DEAF = "lost, and its initial pose had no effect"


class Supervisor:
    """Decides by confident answers and the consumer's own poses.

    recover: whether a lost consumer gets another initial pose. limits: of unseen motion.
    """

    def __init__(self, recover: bool, limits: Motion) -> None:
        self.recover, self.limits = recover, limits
        self.started = False  # the consumer had its first initial pose, or agreed without one
        self.lost = False  # AGREEING answers in a row contradict it, and it has not agreed since
        self.state = State.WAITING
        self._answers, self._against = Streak(), Streak()
        self._sent_ns: int | None = None
        self._newest_ns = 0
        self._attempts = 0  # initial poses since it agreed last

    def unsure(self) -> None:
        """Resets the agreement counters: an answer was not confident."""
        self._answers.clear()
        self._against.clear()

    def sent(self, stamp_ns: int) -> None:
        """Notes that an initial pose was published."""
        self.started, self._sent_ns, self.state = True, stamp_ns, State.SILENT
        self._attempts += 1
        self.unsure()

    def answered(self, now: StampedPose, consumer: StampedPose | None) -> bool:
        """Take a confident answer; returns whether an initial pose is due.

        consumer: its newest pose; None: none yet.
        """
        if now.stamp_ns < self._newest_ns - PATIENCE_NS:  # the clock was set back
            self.unsure()
            self._sent_ns = None
        self._newest_ns = now.stamp_ns
        agreed = self._answers.add(now, self.limits)
        if consumer is None or (self._sent_ns is not None and consumer.stamp_ns <= self._sent_ns):
            self._unheard(now.stamp_ns)
            return agreed and not self.started
        contradicted = self._compare(now, consumer)
        if not self.started:
            return agreed
        return self.recover and contradicted and self._since_sent(now.stamp_ns) >= self._pause

    def _unheard(self, stamp_ns: int) -> None:
        self._against.clear()
        if self.started and self._since_sent(stamp_ns) > PATIENCE_NS:
            self.state = State.MUTE

    def _compare(self, now: StampedPose, consumer: StampedPose) -> bool:
        """Whether AGREEING answers in a row contradict the consumer; sets the state."""
        if distance_squared(now.pose, bounded(consumer).at(now, self.limits)) <= GATE:
            self.started, self.lost, self._attempts = True, False, 0
            self._against.clear()
            self.state = State.AGREES
            return False
        if self._since_sent(now.stamp_ns) < GRACE_NS:
            return False
        contradicted = self._against.add(now, self.limits)
        self.lost = self.lost or contradicted
        if not self.lost:
            self.state = State.DOUBTED
        else:
            self.state = State.DEAF if self._attempts else State.LOST
        return contradicted

    @property
    def _pause(self) -> int:
        return min(PAUSE_NS << max(self._attempts - 1, 0), LONGEST_PAUSE_NS)

    def _since_sent(self, stamp_ns: int) -> int:
        return LONGEST_PAUSE_NS if self._sent_ns is None else stamp_ns - self._sent_ns


def is_confident(answer: Answer) -> bool:
    """Whether an answer, of a sequence or verified, may speak for or against the consumer."""
    variances = np.linalg.eigvalsh(answer.covariance[:2, :2])
    return bool(answer.known and answer.informative and variances[-1] <= LARGEST_DEVIATION**2)


def bounded(consumer: StampedPose) -> StampedPose:
    """A consumer's pose with standard deviations between LEAST and MOST, uncorrelated."""
    deviations = np.sqrt(np.clip(np.diag(consumer.pose.covariance), 0.0, None))
    covariance = np.diag(np.clip(np.nan_to_num(deviations), LEAST, MOST) ** 2)
    return replace(consumer, pose=PoseWithCovariance(consumer.pose.pose, covariance))
