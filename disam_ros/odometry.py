# SPDX-License-Identifier: Apache-2.0
"""Poses of odometry over time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

import numpy as np

from disam_ros.geometry import Transform, interpolate

KEPT = 2000  # poses that are remembered


class OdometryTrack:
    """The last poses `odom_from_base`. May be used from any thread.

    max_age_ns: farthest that odometry may be from the moment that is asked for. Stamps that go
    backwards make it begin anew.
    """

    def __init__(self, max_age_ns: int, kept: int | None = KEPT) -> None:
        self._max_age_ns = max_age_ns
        self._lock = threading.Lock()
        self._stamps: deque[int] = deque(maxlen=kept)
        self._poses: deque[Transform] = deque(maxlen=kept)
        self._travelled: deque[float] = deque(maxlen=kept)
        self.restarts = 0  # how often stamps went backwards

    @classmethod
    def of(
        cls, stamps_ns: np.ndarray, poses: Iterable[Transform], max_age_ns: int
    ) -> OdometryTrack:
        """A whole drive."""
        track = cls(max_age_ns, None)
        for stamp_ns, pose in zip(stamps_ns.tolist(), poses, strict=True):
            track.move(stamp_ns, pose)
        return track

    def move(self, stamp_ns: int, odom_from_base: Transform) -> None:
        """A new pose. One with the stamp of the last is left out."""
        with self._lock:
            if self._stamps and stamp_ns < self._stamps[-1]:
                self.restarts += 1
                for kept in (self._stamps, self._poses, self._travelled):
                    kept.clear()
            if self._stamps and stamp_ns == self._stamps[-1]:
                return
            travelled = 0.0
            if self._poses:
                gap = odom_from_base.translation - self._poses[-1].translation
                travelled = self._travelled[-1] + float(np.linalg.norm(gap))
            self._stamps.append(stamp_ns)
            self._poses.append(odom_from_base)
            self._travelled.append(travelled)

    def at(self, stamp_ns: int) -> tuple[Transform, float] | None:
        """odom_from_base and metres travelled; those of the newest pose shortly after it.

        None where no odometry is near.
        """
        with self._lock:
            if not self._stamps or stamp_ns - self._stamps[-1] > self._max_age_ns:
                return None
            if stamp_ns >= self._stamps[-1]:
                return self._poses[-1], self._travelled[-1]
            stamps = np.array(self._stamps, dtype=np.int64)
            after = int(np.searchsorted(stamps, stamp_ns))
            few = slice(max(0, after - 1), after + 1)
            near = stamps[few], [self._poses[i] for i in range(*few.indices(len(stamps)))]
            metres = [self._travelled[i] for i in range(*few.indices(len(stamps)))]
        pose = interpolate(*near, stamp_ns, self._max_age_ns)
        if pose is None:
            return None
        times = (near[0] - near[0][0]).astype(float)
        return pose, float(np.interp(stamp_ns - near[0][0], times, metres))
