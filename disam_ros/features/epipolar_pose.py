# SPDX-License-Identifier: Apache-2.0
"""Relative pose up to scale of two views from matched keypoints without depths.

Robust least squares on the Sampson distances from several starts: where the parallax is small, a
turn and a shift aside look alike, and the essential matrix of a few samples is often that of
another minimum.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.features.absolute_pose import (
    CONFIDENCE,
    MIN_MATCHES,
    Floats,
    Solution,
    epipolar_residuals,
)
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.triangulation import PIXEL_SIGMA
from disam_ros.geometry import PoseWithCovariance, Transform, offset

TOLERANCE = 1.0  # standard deviations of an inlier of the essential matrix
GATE = 3.0  # standard deviations within which a keypoint is an inlier
CAUCHY_SCALE = 2.0  # standard deviations
TURN_SCALE = 0.01  # radians of a bearing beyond which a match says little of a turn alone
TURN_ROUNDS = 10
EVALUATIONS = 30  # of the residuals in a refinement, at most
COVARIANCE_INFLATION = 2.0  # neighbouring keypoints have correlated errors
TEMPER = 20.0  # difference of log likelihoods that makes a minimum e times less likely: likewise


def epipolar_pose(then: Keypoints, now: Keypoints) -> Solution | None:
    """then_from_now of matched keypoints (row by row), with a translation of unit length.

    Covariance about the axes of `then`; none along the translation, which is not determined, and
    one radian at most across it. It is widened towards other minima as far as these are likely.
    None where fewer than MIN_MATCHES agree.
    """
    if len(then) < MIN_MATCHES:
        return None
    problem = _Problem(then, now)
    minima = [problem.refined(start) for start in problem.starts()]
    (best, inliers, likelihood), *others = sorted(minima, key=lambda item: -item[2])
    if inliers.sum() < MIN_MATCHES:
        return None
    covariance = problem.covariance(best, inliers)
    for other, _, less in others:
        gap = offset(other, best)
        covariance += 0.5 * np.exp((less - likelihood) / TEMPER) * np.outer(gap, gap)
    return Solution(PoseWithCovariance(best, covariance), inliers)


class _Problem:
    """Bearings [M, 2] of the two views and their standard deviation."""

    def __init__(self, then: Keypoints, now: Keypoints) -> None:
        self._then, self._now = then.bearings, now.bearings
        self._sigma = PIXEL_SIGMA * max(then.pixel_angle, now.pixel_angle)

    def starts(self) -> list[Transform]:
        """The essential matrix by MAGSAC++ (Barath et al., CVPR 2020), and a shift along each axis
        with the rotation that explains the matches best alone."""
        turn, eye = self._turn().as_quat(), np.eye(3)
        poses = [Transform(axis, turn) for axis in eye]
        now, then, tolerance = self._now, self._then, TOLERANCE * self._sigma
        matrix, mask = cv2.findEssentialMat(now, then, eye, cv2.USAC_MAGSAC, CONFIDENCE, tolerance)
        if matrix is not None and matrix.shape == (3, 3):
            _, rotation, shift, *_ = cv2.recoverPose(matrix, now, then, eye, mask=mask)
            poses.append(
                Transform.from_rotation(np.asarray(shift[:, 0], float), np.asarray(rotation, float))
            )
        return poses

    def refined(self, start: Transform) -> tuple[Transform, NDArray[np.bool_], float]:
        """Refines a start. Returns the pose at the minimum, its inliers bool [M] and its log
        likelihood over that of no inlier; the translation has the likelier sign."""
        from scipy.optimize import least_squares

        minimum = least_squares(
            lambda step: self._residuals(_moved(start, step)),
            np.zeros(5),
            loss="cauchy",
            f_scale=CAUCHY_SCALE,
            x_scale=TURN_SCALE,
            max_nfev=EVALUATIONS,
        )
        pose = _moved(start, minimum.x)
        both = [Transform(sign * pose.translation, pose.quaternion) for sign in (1.0, -1.0)]
        return max((self._judged(one) for one in both), key=lambda item: item[2])

    def covariance(self, pose: Transform, inliers: NDArray[np.bool_]) -> Floats:
        """Covariance of the pose's error [6, 6], by finite differences."""
        size = 1e-6
        residuals = self._residuals(pose)
        steps = [self._residuals(_moved(pose, step)) - residuals for step in size * np.eye(5)]
        jacobian = np.stack(steps, 1) / size
        weights = inliers / (1.0 + residuals**2 / CAUCHY_SCALE**2)
        spread = COVARIANCE_INFLATION * max(1.0, float(weights @ residuals**2) / weights.sum())
        normal = (jacobian * weights[:, None]).T @ jacobian / spread
        within = np.linalg.inv(normal + np.diag([1.0, 1.0, 0.0, 0.0, 0.0]))
        axes = np.zeros((6, 5))
        axes[:3, :2], axes[3:, 2:] = _across(pose.translation), np.eye(3)
        covariance: Floats = axes @ within @ axes.T
        return covariance

    def _residuals(self, pose: Transform) -> Floats:
        return epipolar_residuals(pose, self._now, self._then) / self._sigma

    def _judged(self, pose: Transform) -> tuple[Transform, NDArray[np.bool_], float]:
        """A pose with its inliers, keypoints that are not clearly behind a camera."""
        squares = self._residuals(pose) ** 2
        inliers = (squares <= GATE**2) & (self._parallaxes(pose) >= -GATE)
        return pose, inliers, float((GATE**2 - squares)[inliers].sum() / 2.0)

    def _parallaxes(self, pose: Transform) -> Floats:
        """How far each keypoint lies from where it would at infinity, towards where nearer points
        lie [M], in standard deviations; negative: behind a camera."""
        far = np.column_stack([self._now, np.ones(len(self._now))]) @ pose.rotation.T
        far = far[:, :2] / far[:, 2:]
        nearer = pose.translation[:2] - far * pose.translation[2]
        lengths = np.maximum(np.linalg.norm(nearer, axis=1), 1e-9)
        along: Floats = (nearer * (self._then - far)).sum(1) / lengths / self._sigma
        return along

    def _turn(self) -> Rotation:
        """The rotation alone that explains most matches."""
        then, now = (np.column_stack([x, np.ones(len(x))]) for x in (self._then, self._now))
        then, now = (x / np.linalg.norm(x, axis=1)[:, None] for x in (then, now))
        weights = np.ones(len(now))
        for _ in range(TURN_ROUNDS):
            turn, _ = Rotation.align_vectors(then, now, weights=weights)
            gaps = np.linalg.norm(then - turn.apply(now), axis=1)
            weights = 1.0 / (1.0 + (gaps / TURN_SCALE) ** 2)
        return turn


def _across(direction: Floats) -> Floats:
    """Two unit vectors [3, 2] at right angles to one, and to each other."""
    return np.linalg.svd(direction[None])[2][1:].T


def _moved(pose: Transform, step: Floats) -> Transform:
    """A step [5] of the direction (across it, radians) and of the rotation (rotation vector)."""
    direction = pose.translation + _across(pose.translation) @ step[:2]
    turned = Rotation.from_rotvec(step[2:]) * Rotation.from_quat(pose.quaternion)
    return Transform(direction / np.linalg.norm(direction), turned.as_quat())
