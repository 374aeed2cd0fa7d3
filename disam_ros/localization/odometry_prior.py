# SPDX-License-Identifier: Apache-2.0
"""The last answer, moved by odometry since, as a prior of the next place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import Transform
from disam_ros.localization.odometry import OdometryTrack
from disam_ros.localization.prior import PositionPrior, propagate


@dataclass(frozen=True)
class Anchor:
    """An answer and the odometry at its time. covariance: [2, 2]. travelled: metres."""

    stamp_ns: int
    map_from_base: Transform
    covariance: np.ndarray
    odom_from_base: Transform
    travelled: float
    restarts: int


class OdometryPrior:
    """noise: see `propagate`."""

    def __init__(self, noise: float, track: OdometryTrack) -> None:
        self.noise, self._track = noise, track
        self._anchor: Anchor | None = None

    @property
    def anchored(self) -> bool:
        """Whether there is an answer to start from."""
        return self._anchor is not None and self._anchor.restarts == self._track.restarts

    def answered(self, stamp_ns: int, map_from_base: Transform, covariance: np.ndarray) -> None:
        """An answer with its covariance [2, 2] of x and y; the newest with odometry counts."""
        if self.anchored and stamp_ns < self._anchor.stamp_ns:
            return
        restarts, at = self._track.restarts, self._track.at(stamp_ns)
        if at is not None:
            self._anchor = Anchor(stamp_ns, map_from_base, covariance, *at, restarts)

    def at(self, stamp_ns: int) -> PositionPrior | None:
        """The prior at a moment; None without an answer before it or odometry near it."""
        anchor, now = self._anchor, self._track.at(stamp_ns)
        if not self.anchored or now is None or stamp_ns < anchor.stamp_ns:
            return None
        odom_from_base, travelled = now
        motion = anchor.odom_from_base.inverse() @ odom_from_base
        metres = travelled - anchor.travelled
        return propagate(anchor.map_from_base, anchor.covariance, motion, metres, self.noise)
