# SPDX-License-Identifier: Apache-2.0
"""A pose graph of odometry and loop closures, solved by GTSAM.

Outliers among the loop closures are rejected by graduated non-convexity with truncated least
squares (Yang, Antonante, Tzoumas, Carlone: Graduated Non-Convexity for Robust Spatial Perception,
RA-L 2020); odometry is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from disam_ros.datasets.smoothing import import_gtsam, pose3
from disam_ros.errors import ConfigError
from disam_ros.geometry import Transform
from disam_ros.slam.loop_closure_message import LoopClosure

START = np.array([0.01] * 3 + [0.05] * 3)  # rad, metres: the first pose is known
TURN = 5e-3  # rad per square root of a metre driven; drift is systematic, so larger than its noise
SLIP = 0.05  # metres per square root of a metre driven
FLAT = 0.02  # rad, metres: roll, pitch and height from one image to the next
LEAST = 0.1  # metres driven at least, for the noise of a step


def solve(
    start: Transform,
    odometry: Sequence[Transform],
    stamps_ns: Sequence[int],
    closures: Sequence[LoopClosure],
    robust: bool = True,
) -> list[Transform]:
    """map_from_base of every stamp. start: of the first. odometry: odom_from_base of each.

    robust: reject outliers among the loop closures; else plain least squares. Raises ConfigError
    without GTSAM.
    """
    gtsam = import_gtsam("a pose graph", ConfigError)
    number = {stamp: i for i, stamp in enumerate(stamps_ns)}
    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    noise = gtsam.noiseModel.Diagonal.Sigmas(START)
    graph.add(gtsam.PriorFactorPose3(0, pose3(gtsam, start), noise))
    for i, (before, after) in enumerate(pairwise(odometry)):
        step = before.inverse() @ after
        metres = np.sqrt(max(LEAST, float(np.linalg.norm(step.translation))))
        sigmas = [FLAT, FLAT, TURN * metres, SLIP * metres, SLIP * metres, FLAT]
        noise = gtsam.noiseModel.Diagonal.Sigmas(np.array(sigmas))
        graph.add(gtsam.BetweenFactorPose3(i, i + 1, pose3(gtsam, step), noise))
    trusted = list(range(graph.size()))
    for closure in closures:
        graph.add(_factor(gtsam, closure, number))
    for i, pose in enumerate(odometry):
        values.insert(i, pose3(gtsam, start @ odometry[0].inverse() @ pose))
    if robust:
        params = gtsam.GncLMParams()
        params.setLossType(gtsam.GncLossType.TLS)
        params.setKnownInliers(trusted)
        solution = gtsam.GncLMOptimizer(graph, values, params).optimize()
    else:
        solution = gtsam.LevenbergMarquardtOptimizer(graph, values).optimize()
    matrices = [solution.atPose3(i).matrix() for i in range(len(odometry))]
    return [Transform.from_rotation(matrix[:3, 3], matrix[:3, :3]) for matrix in matrices]


def _factor(gtsam: Any, closure: LoopClosure, number: dict[int, int]) -> object:
    """A loop closure as a factor. GTSAM's errors are rotation first, in the axes of the second
    pose; its covariance is translation first, in the axes of the first."""
    relative = closure.keyframe_from_base
    turn = relative.pose.rotation.T
    swap = np.block([[np.zeros((3, 3)), turn], [turn, np.zeros((3, 3))]])
    noise = gtsam.noiseModel.Gaussian.Covariance(swap @ relative.covariance @ swap.T)
    now = number[closure.stamp_ns]
    if closure.map_from_keyframe is not None:  # a closure with the map
        pose = closure.map_from_keyframe @ relative.pose
        return gtsam.PriorFactorPose3(now, pose3(gtsam, pose), noise)
    then = number[closure.keyframe_stamp_ns]
    return gtsam.BetweenFactorPose3(then, now, pose3(gtsam, relative.pose), noise)
