# SPDX-License-Identifier: Apache-2.0
"""The last answer, moved by odometry since, as a prior of the next place."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import Transform, interpolate
from disam_ros.prior import PositionPrior, propagate

KEPT = 2000  # poses of odometry


@dataclass(frozen=True)
class Anchor:
    """An answer and the odometry at its time. covariance: [2, 2]. travelled: metres."""

    stamp_ns: int
    map_from_base: Transform
    covariance: np.ndarray
    odom_from_base: Transform
    travelled: float


class OdometryPrior:
    """May be used from any thread. max_age_ns: farthest that odometry may be from an image.

    growth: see `propagate`. Odometry whose stamps go backwards makes it begin anew.
    """

    def __init__(self, growth: float, max_age_ns: int) -> None:
        self._growth, self._max_age_ns = growth, max_age_ns
        self._lock = threading.Lock()
        self._anchor: Anchor | None = None
        self._stamps: deque[int] = deque(maxlen=KEPT)
        self._poses: deque[Transform] = deque(maxlen=KEPT)
        self._travelled: deque[float] = deque(maxlen=KEPT)

    @property
    def anchored(self) -> bool:
        """Whether there is an answer to start from."""
        return self._anchor is not None

    def move(self, stamp_ns: int, odom_from_base: Transform) -> None:
        """A pose of odometry."""
        with self._lock:
            if self._stamps and stamp_ns < self._stamps[-1]:
                self._anchor = None
                for kept in (self._stamps, self._poses, self._travelled):
                    kept.clear()
            if self._stamps and stamp_ns == self._stamps[-1]:
                return
            step = 0.0
            if self._poses:
                gap = odom_from_base.translation - self._poses[-1].translation
                step = self._travelled[-1] + float(np.linalg.norm(gap))
            self._stamps.append(stamp_ns)
            self._poses.append(odom_from_base)
            self._travelled.append(step)

    def answered(self, stamp_ns: int, map_from_base: Transform, covariance: np.ndarray) -> None:
        """An answer with its covariance [2, 2] of x and y; the newest with odometry counts."""
        with self._lock:
            older = self._anchor is not None and stamp_ns < self._anchor.stamp_ns
            at = None if older else self._at(stamp_ns)
            if at is not None:
                self._anchor = Anchor(stamp_ns, map_from_base, covariance, *at)

    def at(self, stamp_ns: int) -> PositionPrior | None:
        """The prior at a moment; None without an answer before it or odometry near it."""
        with self._lock:
            anchor, now = self._anchor, self._at(stamp_ns)
        if anchor is None or now is None or stamp_ns < anchor.stamp_ns:
            return None
        odom_from_base, travelled = now
        motion = anchor.odom_from_base.inverse() @ odom_from_base
        metres = travelled - anchor.travelled
        return propagate(anchor.map_from_base, anchor.covariance, motion, metres, self._growth)

    def _at(self, stamp_ns: int) -> tuple[Transform, float] | None:
        """odom_from_base and metres travelled; those of the newest pose shortly after it."""
        if not self._stamps or stamp_ns - self._stamps[-1] > self._max_age_ns:
            return None
        if stamp_ns >= self._stamps[-1]:
            return self._poses[-1], self._travelled[-1]
        stamps = np.array(self._stamps, dtype=np.int64)
        pose = interpolate(stamps, list(self._poses), stamp_ns, self._max_age_ns)
        if pose is None:
            return None
        times = (stamps - stamps[0]).astype(float)
        return pose, float(np.interp(stamp_ns - stamps[0], times, list(self._travelled)))
