# SPDX-License-Identifier: Apache-2.0
"""Pose errors and poses with covariance.

Covariances are [6, 6], order x y z rotX rotY rotZ (metres, radians), about the axes of the frame
that the pose is expressed in (REP-103).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import GeometryError
from disam_ros.geometry import (
    CONJUGATE,
    Transform,
    multiplied,
    quaternions_of,
    rotation_vectors,
)

MAX_VARIANCE = 1e9  # nav2 refuses a covariance element above
MIN_EIGENVALUE = 0.01  # of the published correlation matrix
TEMPERATURE = 0.05  # fine-similarity difference that makes a candidate e times less likely


@dataclass(frozen=True, eq=False)
class PoseWithCovariance:
    """A pose `a_from_b` and the covariance [6, 6] of its error about the axes of frame a."""

    pose: Transform
    covariance: NDArray[np.float64]

    def transformed(self, c_from_a: Transform) -> PoseWithCovariance:
        """Return `c_from_b`, the pose in a frame that is known exactly."""
        axes = np.kron(np.eye(2), c_from_a.rotation)
        return PoseWithCovariance(c_from_a @ self.pose, axes @ self.covariance @ axes.T)

    def with_lever_arm(self, b_from_c: Transform) -> PoseWithCovariance:
        """Return `a_from_c` for c fixed to b: a rotation error e moves its origin by e × arm."""
        arm = self.pose.rotation @ b_from_c.translation
        jacobian = np.eye(6)
        jacobian[:3, 3:] = -cross_matrices(arm[None])[0]
        return PoseWithCovariance(self.pose @ b_from_c, jacobian @ self.covariance @ jacobian.T)

    def fuse(self, other: PoseWithCovariance) -> tuple[PoseWithCovariance, float]:
        """The estimate from two independent ones, and their squared Mahalanobis distance.

        A Kalman filter's update and its normalized innovation squared, about 6 where both
        covariances are true (Bar-Shalom et al., Estimation with Applications to Tracking, 2001).
        """
        innovation = offset(other.pose, self.pose)
        both = self.covariance + other.covariance
        step = self.covariance @ np.linalg.solve(both, innovation)
        left = self.covariance - self.covariance @ np.linalg.solve(both, self.covariance)
        distance = float(innovation @ np.linalg.solve(both, innovation))
        return PoseWithCovariance(retract(self.pose, step), (left + left.T) / 2), distance

    def updated(
        self, row: NDArray[np.float64], innovation: float, noise: float
    ) -> PoseWithCovariance:
        """The estimate after a scalar measurement, by a Kalman filter's update.

        row: derivatives [6] of the measurement by the pose's error; innovation: measured minus
        expected; noise: variance of the measurement.
        """
        toward = self.covariance @ row
        gain = toward / (row @ toward + noise)
        left = self.covariance - np.outer(gain, toward)
        return PoseWithCovariance(retract(self.pose, gain * innovation), (left + left.T) / 2)


def offset(truth: Transform, answer: Transform) -> NDArray[np.float64]:
    """Error [6] of a pose, truth minus answer, about the axes of their common frame (REP-103).

    Order x y z rotX rotY rotZ: metres, and the rotation vector [rad] that turns the answer into the
    truth. Covariances [6, 6] are of these errors.
    """
    turn = rotation_vectors(multiplied(truth.quaternion, answer.quaternion * CONJUGATE))
    return np.concatenate([truth.translation - answer.translation, turn])


def offsets(truths: NDArray[np.float64], answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """`offset` of many poses at once [M, 6].

    truths: [M, 7] tx ty tz qx qy qz qw. answers: [M, 7], or [1, 7] for one answer to all.
    """
    turns = rotation_vectors(multiplied(truths[:, 3:], answers[:, 3:] * CONJUGATE))
    return np.hstack([truths[:, :3] - answers[:, :3], turns])


def retract(pose: Transform, step: NDArray[np.float64]) -> Transform:
    """Step on the manifold: the pose whose `offset` from `pose` is `step` [6]."""
    turn = multiplied(quaternions_of(step[3:]), pose.quaternion)
    return Transform(pose.translation + step[:3], turn)


def cross_matrices(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices [M, 3, 3] of the cross product with each vector [M, 3]."""
    matrices = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    matrices[:, 0, 1], matrices[:, 0, 2], matrices[:, 1, 2] = -z, y, -x
    return matrices - matrices.transpose(0, 2, 1)


def is_covariance(matrix: NDArray[np.float64]) -> bool:
    """Whether a matrix is [6, 6], finite, symmetric but for rounding, and positive definite."""
    if matrix.shape != (6, 6) or not np.isfinite(matrix).all():
        return False
    if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12):
        return False
    return bool(np.linalg.eigvalsh(matrix)[0] > 0)


def publishable_covariance(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A covariance [6, 6] without a negative element, positive definite, no element above 1e9.

    nav2 rejects a message with any negative element, even off the diagonal. Variances are kept
    (those above 1e9 m² become 1e9). Negative correlations become 0. Should the rest no longer be
    positive definite, all correlations shrink by one factor until the smallest eigenvalue of the
    correlation matrix is 0.01.
    Raises GeometryError unless all elements are finite and the variances positive.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    variances = np.diag(covariance)
    if not np.isfinite(covariance).all() or (variances <= 0).any():
        raise GeometryError(
            f"expected a finite covariance with positive variances, got {covariance.tolist()}"
        )
    deviations = np.sqrt(variances)
    correlation = np.clip(covariance / np.outer(deviations, deviations), 0.0, 1.0)
    correlation = (correlation + correlation.T) / 2
    np.fill_diagonal(correlation, 0.0)
    smallest = np.linalg.eigvalsh(correlation)[0]  # ≤ 0, as the trace is 0
    if 1.0 + smallest < MIN_EIGENVALUE:
        correlation *= (1.0 - MIN_EIGENVALUE) / -smallest
    np.fill_diagonal(correlation, 1.0)
    deviations = np.minimum(deviations, np.sqrt(MAX_VARIANCE))
    published: NDArray[np.float64] = correlation * np.outer(deviations, deviations)
    return published
