# SPDX-License-Identifier: Apache-2.0
"""Exact poses along the town's route over time. Metres, radians, seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from disam_ros.geometry import Transform
from season_town.arrays import Points


@dataclass(frozen=True)
class Trajectory:
    """Poses of the base frame (on the ground, x forward) in the map frame; N samples."""

    time: Points  # [N] seconds since the start
    poses: list[Transform]  # map_from_base
    twist: Points  # [N, 2] forward speed m/s, yaw rate rad/s


class Wander:
    """A smooth random function within [-1, 1]: a sum of three sines."""

    def __init__(self, rng: np.random.Generator, shortest: float, longest: float) -> None:
        self._frequency = 2 * np.pi / rng.uniform(shortest, longest, 3)
        self._phase = rng.uniform(0, 2 * np.pi, 3)
        weight = rng.uniform(0.5, 1.0, 3)
        self._weight = weight / weight.sum()

    def __call__(self, x: Points) -> Points:
        waves = np.sin(np.asarray(x)[..., None] * self._frequency + self._phase)
        value: Points = waves @ self._weight
        return value


def drive_route(
    route: Points,
    seed: int,
    *,
    rate_hz: float,
    spacing_m: float | None,
    length_m: float | None,
    lateral_m: float,
    yaw_deg: float,
    speed_m_s: tuple[float, float],
) -> Trajectory:
    """Drives along a closed route [R, 2] once (or `length_m` of it).

    Samples lie `spacing_m` apart along the lane, or 1 / rate_hz apart in time where it is None.
    """
    rng = np.random.default_rng([seed, 31])
    lane = _Lane(route)
    length = lane.length if length_m is None else length_m
    lateral, yaw, roll = Wander(rng, 45, 130), Wander(rng, 25, 90), Wander(rng, 8, 30)
    pace = Wander(rng, 60, 160)
    low, high = speed_m_s

    def speed(s: Points) -> Points:
        return (low + high) / 2 + (high - low) / 2 * pace(s)

    fine = np.linspace(0.0, length, max(2, int(length / 0.05) + 1))
    clock = np.concatenate([[0], np.cumsum(np.diff(fine) / speed((fine[1:] + fine[:-1]) / 2))])
    s: Points
    if spacing_m is not None:
        s = np.arange(0.0, length, spacing_m, dtype=np.float64)
    else:
        s = np.asarray(np.interp(np.arange(0.0, clock[-1], 1.0 / rate_hz), clock, fine))
    time = np.interp(s, fine, clock)

    def pose_at(at: Points) -> Points:
        """Returns x, y, yaw [N, 3] at distances `at` [m]."""
        position, heading = lane(at)
        offset = lateral_m * lateral(at)
        slope = lateral_m * (lateral(at + 0.05) - lateral(at - 0.05)) / 0.1
        left = np.stack([-np.sin(heading), np.cos(heading)], 1)
        turn = heading + np.arctan(slope) + np.radians(yaw_deg) * yaw(at)
        return np.column_stack([position + offset[:, None] * left, turn])

    planar = pose_at(s)
    ahead, behind = pose_at(s + 0.05), pose_at(s - 0.05)
    v = speed(s) * np.linalg.norm(ahead[:, :2] - behind[:, :2], axis=1) / 0.1
    w = speed(s) * _wrap(ahead[:, 2] - behind[:, 2]) / 0.1
    tilt = np.radians(0.5) * np.column_stack([roll(s), roll(s + 17.0)])
    poses = [
        Transform.from_xyz_rpy([x, y, 0.0, r, p, h])
        for (x, y, h), (r, p) in zip(planar, tilt, strict=True)
    ]
    return Trajectory(time, poses, np.column_stack([v, w]))


class _Lane:
    """A closed polyline as a smooth function of distance."""

    def __init__(self, route: Points) -> None:
        closed = np.vstack([route, route[:1]])
        steps = np.linalg.norm(np.diff(closed, axis=0), axis=1)
        s = np.concatenate([[0], np.cumsum(steps)])
        self.length = float(s[-1])
        self._curve = CubicSpline(s, closed, bc_type="periodic")

    def __call__(self, s: Points) -> tuple[Points, Points]:
        """Returns position [N, 2] and heading [N] at distance s [N]."""
        direction = self._curve(s, 1)
        return self._curve(s), np.arctan2(direction[:, 1], direction[:, 0])


def _wrap(angle: Points) -> Points:
    return (angle + np.pi) % (2 * np.pi) - np.pi
