# SPDX-License-Identifier: Apache-2.0
"""Position prior from the last answer, propagated by odometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import Transform
from disam_ros.localization.odometry import OdometryTrack
from disam_ros.localization.prior import PositionPrior, propagate


@dataclass(frozen=True)
class Anchor:
    """An answer and the odometry at its stamp. covariance: of x and y [2, 2]. travelled: [m]."""

    stamp_ns: int
    map_from_base: Transform
    covariance: NDArray[np.float64]
    odom_from_base: Transform
    travelled: float
    restarts: int


class OdometryPrior:
    """Propagates the last answer by odometry. noise: of odometry [m/m], see `propagate`."""

    def __init__(self, noise: float, track: OdometryTrack) -> None:
        self.noise, self._track = noise, track
        self._last: Anchor | None = None

    @property
    def anchor(self) -> Anchor | None:
        """The answer to propagate; None without one since odometry started over."""
        last = self._last
        return last if last is not None and last.restarts == self._track.restarts else None

    def answered(
        self, stamp_ns: int, map_from_base: Transform, covariance: NDArray[np.float64]
    ) -> None:
        """Take an answer with its covariance of x and y [2, 2] unless the last one is newer."""
        anchor = self.anchor
        if anchor is not None and stamp_ns < anchor.stamp_ns:
            return
        restarts, at = self._track.restarts, self._track.at(stamp_ns)
        if at is not None:
            odom_from_base, travelled = at
            self._last = Anchor(
                stamp_ns, map_from_base, covariance, odom_from_base, travelled, restarts
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
