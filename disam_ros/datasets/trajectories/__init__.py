# SPDX-License-Identifier: Apache-2.0
"""Poses of a drive from a file, as SLAM systems, evo and GNSS post-processing write them."""

from disam_ros.datasets.trajectories.reader import read_trajectory
from disam_ros.datasets.trajectories.trajectory import Trajectory

__all__ = ["Trajectory", "read_trajectory"]
