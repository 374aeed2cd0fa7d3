# SPDX-License-Identifier: Apache-2.0
"""Simulated wheel odometry with drift, and GNSS with correlated errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from disam_ros.geodesy import metres_per_degree
from disam_ros.geometry import Transform
from season_town.arrays import Points
from season_town.conditions import ALTITUDE, LATITUDE, LONGITUDE
from season_town.trajectory import Trajectory

SCALE_ERROR = 0.01  # standard deviation of the wheel scale of a drive
STEP_ERROR = 0.004  # metres per square root of a metre driven
YAW_BIAS = 2e-4  # rad per metre driven, standard deviation of a drive
YAW_NOISE = 5e-4  # rad per square root of a metre driven
GNSS_SIGMA = 2.5  # metres, horizontal
GNSS_TIME = 20.0  # correlation time of the error [s]


def wheel_odometry(trajectory: Trajectory, seed: int) -> list[Transform]:
    """Simulates odom_from_base per sample from the identity on: dead reckoning with noise."""
    rng = np.random.default_rng([seed, 41])
    scale, bias = 1.0 + SCALE_ERROR * rng.standard_normal(), YAW_BIAS * rng.standard_normal()
    track = np.array([_planar(pose) for pose in trajectory.poses])
    state, odometry = np.zeros(3), [Transform.identity()]  # x, y, yaw
    for before, after in pairwise(track):
        c, s = np.cos(before[2]), np.sin(before[2])
        dx, dy = after[:2] - before[:2]
        step = np.array([c * dx + s * dy, c * dy - s * dx])
        metres = float(np.hypot(dx, dy))
        noise = rng.standard_normal(2) * np.sqrt(metres)
        step = step * scale + [STEP_ERROR * noise[0], 0.0]
        turn = (after[2] - before[2] + np.pi) % (2 * np.pi) - np.pi
        c, s = np.cos(state[2]), np.sin(state[2])
        state = state + np.array(
            [
                c * step[0] - s * step[1],
                s * step[0] + c * step[1],
                turn + bias * metres + YAW_NOISE * noise[1],
            ]
        )
        odometry.append(Transform.from_xyz_rpy([state[0], state[1], 0.0, 0.0, 0.0, state[2]]))
    return odometry


def gnss_fixes(trajectory: Trajectory, seed: int) -> Points:
    """Simulates latitude, longitude (degrees) and altitude (metres), float64 [N, 3]."""
    rng = np.random.default_rng([seed, 43])
    sigma = np.array([GNSS_SIGMA, GNSS_SIGMA, 1.6 * GNSS_SIGMA]) / np.sqrt([2, 2, 1])
    error, fixes, last = sigma * rng.standard_normal(3), [], 0.0
    for time, pose in zip(trajectory.time, trajectory.poses, strict=True):
        keep = np.exp(-(time - last) / GNSS_TIME)
        error = keep * error + np.sqrt(1 - keep**2) * sigma * rng.standard_normal(3)
        last = time
        fixes.append(geodetic(pose.translation + error))
    return np.array(fixes)


def geodetic(enu: Points) -> tuple[float, float, float]:
    """Converts a map point [3] near the origin to latitude, longitude [deg] and altitude [m]."""
    north, east = metres_per_degree(LATITUDE)
    latitude, longitude = LATITUDE + enu[1] / north, LONGITUDE + enu[0] / east
    return float(latitude), float(longitude), float(ALTITUDE + enu[2])


def _planar(pose: Transform) -> tuple[float, float, float]:
    forward = pose.rotation[:, 0]
    return pose.translation[0], pose.translation[1], float(np.arctan2(forward[1], forward[0]))
