# SPDX-License-Identifier: Apache-2.0
"""Poses of odometry over time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from disam_ros.config import LocalizerConfig
from disam_ros.geometry import Transform, interpolate

KEPT = 2000  # poses that are remembered
JUMP_FACTOR = 2.0  # over the vehicle's largest speed: odometry that is faster has jumped
JUMP_SLACK = 1.0  # metres that odometry may step at once, however short the time
BACK, JUMP = "back", "jump"  # why odometry began anew


@dataclass(frozen=True)
class Reading:
    """Odometry at a moment.

    travelled: metres. drive: how often odometry had begun anew: poses of different drives have
    nothing to do with each other.
    """

    odom_from_base: Transform
    travelled: float
    drive: int


class OdometryTrack:
    """The last poses `odom_from_base`. May be used from any thread.

    max_age_ns: farthest that odometry may be from the moment that is asked for. max_speed: metres a
    second beyond which it has jumped. A jump and stamps that go backwards make it begin anew.
    """

    def __init__(self, max_age_ns: int, kept: int | None = KEPT, max_speed: float = np.inf) -> None:
        self.max_age_ns, self.max_speed = max_age_ns, max_speed
        self._lock = threading.Lock()
        self._stamps: deque[int] = deque(maxlen=kept)
        self._poses: deque[Transform] = deque(maxlen=kept)
        self._travelled: deque[float] = deque(maxlen=kept)
        self.restarts = 0  # how often it began anew

    @classmethod
    def of_config(cls, config: LocalizerConfig) -> OdometryTrack:
        """An empty track with the limits of a localizer's settings."""
        track = cls(0)
        track.configure(config)
        return track

    def configure(self, config: LocalizerConfig) -> None:
        """Take the limits of a localizer's settings."""
        self.max_age_ns = round(1e9 * config.prior.max_age)
        self.max_speed = JUMP_FACTOR * config.max_speed

    @classmethod
    def of(
        cls, stamps_ns: np.ndarray, poses: Iterable[Transform], max_age_ns: int
    ) -> OdometryTrack:
        """A whole drive."""
        track = cls(max_age_ns, None)
        for stamp_ns, pose in zip(stamps_ns.tolist(), poses, strict=True):
            track.move(stamp_ns, pose)
        return track

    def move(self, stamp_ns: int, odom_from_base: Transform) -> str:
        """A new pose; one with the stamp of the last is left out. BACK or JUMP, most often empty.

        BACK: its stamp is before the last one. JUMP: nothing drives that fast. It then begins anew.
        """
        with self._lock:
            if self._stamps and stamp_ns == self._stamps[-1]:
                return ""
            travelled, fault = 0.0, ""
            if self._stamps:
                gap = odom_from_base.translation - self._poses[-1].translation
                metres, seconds = float(np.linalg.norm(gap)), (stamp_ns - self._stamps[-1]) / 1e9
                travelled = self._travelled[-1] + metres
                if seconds < 0:
                    fault = BACK
                elif metres > self.max_speed * seconds + JUMP_SLACK:
                    fault = JUMP
            if fault:
                travelled, self.restarts = 0.0, self.restarts + 1
                for kept in (self._stamps, self._poses, self._travelled):
                    kept.clear()
            self._stamps.append(stamp_ns)
            self._poses.append(odom_from_base)
            self._travelled.append(travelled)
            return fault

    def reading(self, stamp_ns: int) -> Reading | None:
        """What `at` gives, and of which drive it is."""
        drive = self.restarts
        at = self.at(stamp_ns)
        return Reading(*at, drive) if at and drive == self.restarts else None

    def at(self, stamp_ns: int) -> tuple[Transform, float] | None:
        """odom_from_base and metres travelled; those of the newest pose shortly after it.

        None where no odometry is near.
        """
        with self._lock:
            if not self._stamps or stamp_ns - self._stamps[-1] > self.max_age_ns:
                return None
            if stamp_ns >= self._stamps[-1]:
                return self._poses[-1], self._travelled[-1]
            stamps = np.array(self._stamps, dtype=np.int64)
            after = int(np.searchsorted(stamps, stamp_ns))
            few = slice(max(0, after - 1), after + 1)
            near = stamps[few], [self._poses[i] for i in range(*few.indices(len(stamps)))]
            metres = [self._travelled[i] for i in range(*few.indices(len(stamps)))]
        pose = interpolate(*near, stamp_ns, self.max_age_ns)
        if pose is None:
            return None
        times = (near[0] - near[0][0]).astype(float)
        return pose, float(np.interp(stamp_ns - near[0][0], times, metres))
