# SPDX-License-Identifier: Apache-2.0
"""Chi-square tests of whether poses of one vehicle agree, compensated for its motion.

Only x, y and yaw are compared: AMCL and slam_toolbox know no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import PoseWithCovariance, offset
from disam_ros.localization.sequence.odometry import Reading, motion

PLANAR = np.ix_([0, 1, 5], [0, 1, 5])
GATE = 16.27  # squared Mahalanobis distance that 99.9 % of true poses stay below: χ², 3 degrees
AGREEING = 5  # answers in a row that must agree
SPACING_NS = 500_000_000  # between two that count [ns]: neighbouring images err together
YAW_NOISE = 0.1  # of odometry over its noise in position [rad/m]
TURN_RATE = 1.0  # of a vehicle whose odometry is not known, 1 σ [rad/s]


@dataclass(frozen=True)
class Motion:
    """Limits of a vehicle's unseen motion."""

    noise: float  # of odometry [m/m]
    max_speed: float  # without odometry [m/s]


@dataclass(frozen=True)
class StampedPose:
    """`map_from_base` at a stamp, with the odometry there, if any."""

    stamp_ns: int
    pose: PoseWithCovariance
    odometry: Reading | None

    def at(self, now: StampedPose, limits: Motion) -> PoseWithCovariance:
        """Moves this pose to the moment of another one, in either direction of time."""
        moved = motion(self.odometry, now.odometry)
        growth = np.zeros(6)
        if moved is None or self.odometry is None or now.odometry is None:
            seconds = abs(now.stamp_ns - self.stamp_ns) / 1e9
            pose = self.pose
            growth[:3], growth[3:] = limits.max_speed * seconds, TURN_RATE * seconds
        else:
            metres = abs(now.odometry.travelled - self.odometry.travelled)
            pose = self.pose.with_lever_arm(moved)
            growth[:3] = limits.noise * metres
            growth[3:] = YAW_NOISE * growth[0]
        return PoseWithCovariance(pose.pose, pose.covariance + np.diag(growth**2))


def distance_squared(a: PoseWithCovariance, b: PoseWithCovariance) -> float:
    """Squared Mahalanobis distance of x, y and yaw, with both covariances."""
    gap = offset(a.pose, b.pose)[[0, 1, 5]]
    both = (a.covariance + b.covariance)[PLANAR]
    return float(gap @ np.linalg.solve(both, gap))


def agree(now: StampedPose, before: StampedPose, limits: Motion) -> bool:
    """Tests whether two poses of the vehicle can both be right."""
    return distance_squared(now.pose, before.at(now, limits)) <= GATE


class Streak:
    """Answers in a row that agree with each other; complete with AGREEING, SPACING_NS apart."""

    def __init__(self) -> None:
        self._poses: list[StampedPose] = []

    def clear(self) -> None:
        """Begin again."""
        self._poses.clear()

    def add(self, now: StampedPose, limits: Motion) -> bool:
        """Add an answer, or begin again with one that contradicts; returns whether complete."""
        if not all(agree(now, before, limits) for before in self._poses):
            self.clear()
        if not self._poses or now.stamp_ns - self._poses[-1].stamp_ns >= SPACING_NS:
            self._poses = [*self._poses[1 - AGREEING :], now]
        return len(self._poses) >= AGREEING
