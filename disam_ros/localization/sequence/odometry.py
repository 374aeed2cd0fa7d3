# SPDX-License-Identifier: Apache-2.0
"""Odometry track: interpolated poses, distance travelled, detection of jumps; position prior from
the last answer propagated along it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig
from disam_ros.geometry import Transform
from disam_ros.localization.prior import PositionPrior, propagate
from disam_ros.pose_buffer import PoseBuffer, StampedPose

KEPT = 2000  # poses in the buffer
JUMP_FACTOR = 2.0  # multiple of the vehicle's largest speed from which odometry has jumped
JUMP_SLACK = 1.0  # step that is no jump, however short the time [m]
BACK, JUMP = "back", "jump"  # faults after which odometry starts over
AHEAD = "ahead"  # the last pose was a stray with a stamp in the future, and is left out


@dataclass(frozen=True)
class Reading:
    """Odometry at a moment.

    travelled: distance [m]. drive: its number; poses of different drives have no common frame.
    """

    odom_from_base: Transform
    travelled: float
    drive: int


def motion(before: Reading | None, now: Reading | None) -> Transform | None:
    """base_from_next by odometry; None where it is unknown or started over in between."""
    if before is None or now is None or before.drive != now.drive:
        return None
    return before.odom_from_base.inverse() @ now.odom_from_base


class OdometryTrack:
    """Buffer of the last poses `odom_from_base`. Thread-safe.

    max_age_ns: longest time between odometry and the stamp of a query [ns]. max_speed: speed above
    which odometry has jumped [m/s]. The track starts over after a jump and after stamps that go
    backwards; if the next pose follows the one before that, the drive goes on, and the pose in
    between was a stray.
    """

    def __init__(self, max_age_ns: int, kept: int | None = KEPT, max_speed: float = np.inf) -> None:
        self.max_speed = max_speed
        self._lock = threading.Lock()
        self._kept = kept
        self._poses = PoseBuffer(max_age_ns, kept)
        self._aside: tuple[int, PoseBuffer] | None = None  # the drive before the last pose
        self.drive = self.restarts = 0

    @property
    def max_age_ns(self) -> int:
        return self._poses.max_gap_ns

    @max_age_ns.setter
    def max_age_ns(self, value: int) -> None:
        self._poses.max_gap_ns = value

    @classmethod
    def of_config(cls, config: LocalizerConfig) -> OdometryTrack:
        """An empty track with the limits of a localizer's settings."""
        track = cls(0)
        track.configure(config)
        return track

    def configure(self, config: LocalizerConfig) -> None:
        """Set the limits by a localizer's settings."""
        self.max_age_ns = round(1e9 * config.prior.max_age)
        self.max_speed = JUMP_FACTOR * config.max_speed

    @classmethod
    def of(
        cls, stamps_ns: NDArray[np.int64], poses: Iterable[Transform], max_age_ns: int
    ) -> OdometryTrack:
        """The track of a whole drive."""
        track = cls(max_age_ns, None)
        for stamp_ns, pose in zip(stamps_ns.tolist(), poses, strict=True):
            track.move(stamp_ns, pose)
        return track

    def move(self, stamp_ns: int, odom_from_base: Transform) -> str:
        """Append a pose; one with the stamp of the last is ignored. A fault or mostly empty.

        BACK: its stamp is before the last one. JUMP: faster than `max_speed`. The track then starts
        over with this pose. AHEAD: the last pose is left out, as its stamp was in the future.
        """
        with self._lock:
            aside, self._aside = self._aside, None
            if aside is not None and not self._fault(aside[1].newest, stamp_ns, odom_from_base):
                self.drive, poses = aside
                poses.max_gap_ns, self._poses = self._poses.max_gap_ns, poses
            fault = self._fault(self._poses.newest, stamp_ns, odom_from_base)
            if fault == BACK and self._is_stray(stamp_ns, odom_from_base):
                fault = AHEAD
            elif fault:
                self._aside = self.drive, self._poses
                self.restarts += 1
                self.drive = self.restarts
                self._poses = PoseBuffer(self.max_age_ns, self._kept)
            self._poses.add(stamp_ns, odom_from_base)
            return fault

    def reading(self, stamp_ns: int) -> Reading | None:
        """Pose and distance as of `at`, with their drive."""
        drive = self.drive
        at = self.at(stamp_ns)
        if at is None or drive != self.drive:
            return None
        odom_from_base, travelled = at
        return Reading(odom_from_base, travelled, drive)

    def at(self, stamp_ns: int) -> tuple[Transform, float] | None:
        """odom_from_base and distance travelled [m], interpolated.

        Those of the newest pose up to max_age_ns after it; None without odometry near the stamp.
        """
        with self._lock:
            newest = self._poses.newest
            if newest is None or stamp_ns - newest.stamp_ns > self.max_age_ns:
                return None
            sample = self._poses.sample(min(stamp_ns, newest.stamp_ns))
        return None if sample is None else (sample.pose, sample.travelled)

    def _is_stray(self, stamp_ns: int, odom_from_base: Transform) -> bool:
        """Whether a pose follows the one before the last, which is then left out."""
        newest = self._poses.newest
        before = self._poses.drop_newest()
        if before is not None and not self._fault(before, stamp_ns, odom_from_base):
            return True
        if newest is not None:
            self._poses.add(newest.stamp_ns, newest.pose)
        return False

    def _fault(self, newest: StampedPose | None, stamp_ns: int, odom_from_base: Transform) -> str:
        """BACK, JUMP or empty, of a pose after another."""
        if newest is None or stamp_ns == newest.stamp_ns:
            return ""
        if stamp_ns < newest.stamp_ns:
            return BACK
        metres = float(np.linalg.norm(odom_from_base.translation - newest.pose.translation))
        seconds = (stamp_ns - newest.stamp_ns) / 1e9
        return JUMP if metres > self.max_speed * seconds + JUMP_SLACK else ""


@dataclass(frozen=True)
class Anchor:
    """An answer and the odometry at its stamp. covariance: of x and y [2, 2]. travelled: [m]."""

    stamp_ns: int
    map_from_base: Transform
    covariance: NDArray[np.float64]
    odom_from_base: Transform
    travelled: float
    drive: int


class OdometryPrior:
    """Propagates the last answer by odometry. noise: of odometry [m/m], see `propagate`."""

    def __init__(self, noise: float, track: OdometryTrack) -> None:
        self.noise, self._track = noise, track
        self._last: Anchor | None = None

    @property
    def anchor(self) -> Anchor | None:
        """The answer to propagate; None without one since odometry started over."""
        last = self._last
        return last if last is not None and last.drive == self._track.drive else None

    def answered(
        self, stamp_ns: int, map_from_base: Transform, covariance: NDArray[np.float64]
    ) -> None:
        """Take an answer with its covariance of x and y [2, 2] unless the last one is newer."""
        anchor = self.anchor
        if anchor is not None and stamp_ns < anchor.stamp_ns:
            return
        drive, at = self._track.drive, self._track.at(stamp_ns)
        if at is not None:
            odom_from_base, travelled = at
            self._last = Anchor(
                stamp_ns, map_from_base, covariance, odom_from_base, travelled, drive
            )

    def at(self, stamp_ns: int) -> PositionPrior | None:
        """The prior at a stamp; None without an answer before it or odometry near it."""
        anchor, now = self.anchor, self._track.at(stamp_ns)
        if anchor is None or now is None or stamp_ns < anchor.stamp_ns:
            return None
        odom_from_base, travelled = now
        motion = anchor.odom_from_base.inverse() @ odom_from_base
        metres = travelled - anchor.travelled
        return propagate(anchor.map_from_base, anchor.covariance, motion, metres, self.noise)
