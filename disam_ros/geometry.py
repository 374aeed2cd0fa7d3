# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms in SE(3), their errors and covariances.

They are named `target_from_source`; metres; quaternions x y z w. Covariances are [6, 6], order
x y z rotX rotY rotZ (metres, radians), about the axes of the frame that the pose is expressed in
(REP-103).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from disam_ros.errors import GeometryError

FARTHEST = 1e8  # coordinate [m]: those of all projections, zone numbers included, are less
UNIT = 1e-2  # by which the norm of a unit quaternion may differ from 1
TINY = 1e-9  # sine or angle [rad] below which a rotation vector is proportional to the quaternion
CONJUGATE = np.array([-1.0, -1.0, -1.0, 1.0])
# Optical camera axes (x right, y down, z forward) seen from body axes (x forward, y left, z up).
BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
MAX_VARIANCE = 1e9  # nav2 refuses a covariance element above
MIN_EIGENVALUE = 0.01  # of the published correlation matrix


@dataclass(frozen=True, eq=False)
class Transform:
    """A rigid transform `a_from_b`: maps coordinates of a point in frame b to frame a.

    Raises GeometryError unless the translation is one on Earth and the quaternion a unit one.
    """

    translation: NDArray[np.float64]  # origin of b in a [3] [m]
    quaternion: NDArray[np.float64]  # rotation x y z w [4]

    def __post_init__(self) -> None:
        translation = np.array(self.translation, dtype=np.float64)  # copies
        quaternion = np.array(self.quaternion, dtype=np.float64)
        if translation.shape != (3,) or quaternion.shape != (4,):
            raise GeometryError(
                f"expected translation [3] and quaternion [4], got {list(translation.shape)} "
                f"and {list(quaternion.shape)}"
            )
        bounded = all(
            abs(value) <= FARTHEST for value in (*translation.tolist(), *quaternion.tolist())
        )
        norm = math.sqrt(quaternion @ quaternion) if bounded else math.inf  # false with nan
        if not abs(norm - 1.0) <= UNIT:
            raise GeometryError(
                f"expected finite metres up to {FARTHEST:g} and a unit quaternion x y z w, got "
                f"translation {translation.tolist()} and quaternion {quaternion.tolist()}; check "
                "its source"
            )
        object.__setattr__(self, "translation", translation)
        object.__setattr__(self, "quaternion", quaternion / norm)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Transform):
            return NotImplemented
        same = np.array_equal(self.translation, other.translation)
        return same and np.array_equal(self.quaternion, other.quaternion)

    def __hash__(self) -> int:
        return hash((self.translation.tobytes(), self.quaternion.tobytes()))

    @classmethod
    def identity(cls) -> Transform:
        """The transform of a frame to itself."""
        return cls(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))

    @classmethod
    def from_rotation(
        cls, translation: NDArray[np.float64], rotation: NDArray[np.float64]
    ) -> Transform:
        """Make a transform of a translation [3] [m] and a rotation matrix [3, 3]."""
        return cls(translation, Rotation.from_matrix(rotation).as_quat())

    @classmethod
    def from_xyz_rpy(cls, values: list[float] | NDArray[np.float64]) -> Transform:
        """Make a transform of x y z [m] and roll pitch yaw [rad], fixed axes as in URDF.

        Raises GeometryError.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (6,):
            raise GeometryError(f"expected x y z roll pitch yaw (6 numbers), got {values.tolist()}")
        return cls(values[:3], Rotation.from_euler("xyz", values[3:]).as_quat())

    @property
    def rotation(self) -> NDArray[np.float64]:
        """Rotation matrix [3, 3]."""
        return self._matrix.copy()

    @cached_property
    def _matrix(self) -> NDArray[np.float64]:
        """Rotation matrix [3, 3], made once."""
        x, y, z, w = self.quaternion.tolist()
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    def __matmul__(self, other: Transform) -> Transform:
        """`a_from_b @ b_from_c` is `a_from_c`."""
        return Transform(
            self.translation + self._matrix @ other.translation,
            multiplied(self.quaternion, other.quaternion),
        )

    def inverse(self) -> Transform:
        """Return `b_from_a`."""
        return Transform(-(self.translation @ self._matrix), self.quaternion * CONJUGATE)


def multiplied(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply quaternions [..., 4], x y z w: first the turn b, then a."""
    products = a[..., :, None] * b[..., None, :]
    result: NDArray[np.float64] = products.reshape(*products.shape[:-2], 16) @ _PRODUCT
    return result


def turned(quaternions: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn points [..., 3] by unit quaternions [..., 4]."""
    pure = np.zeros((*points.shape[:-1], 4))
    pure[..., :3] = points
    return multiplied(multiplied(quaternions, pure), quaternions * CONJUGATE)[..., :3]


def rotation_vectors(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vectors [..., 3] [rad] of unit quaternions [..., 4], of at most half a turn."""
    axes, cosines = quaternions[..., :3], quaternions[..., 3:]
    sines = np.sqrt((axes * axes).sum(-1, keepdims=True))
    angles = 2.0 * np.arctan2(sines, np.abs(cosines))
    scales = np.where(sines > TINY, angles / np.maximum(sines, TINY), 2.0)
    return np.where(cosines < 0, -scales, scales) * axes


def quaternions_of(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternions [..., 4] of rotation vectors [..., 3] [rad]."""
    angles = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    scales = np.where(angles > TINY, np.sin(angles / 2) / np.maximum(angles, TINY), 0.5)
    return np.concatenate([scales * vectors, np.cos(angles / 2)], axis=-1)


def compose(a_from_b: NDArray[np.float64], b_from_c: Transform) -> NDArray[np.float64]:
    """Compose many poses at once: [N, 7] → `a_from_c` [N, 7], tx ty tz qx qy qz qw."""
    turns, moves = a_from_b[:, 3:], np.broadcast_to(b_from_c.translation, (len(a_from_b), 3))
    positions = a_from_b[:, :3] + turned(turns, moves)
    return np.hstack([positions, multiplied(turns, b_from_c.quaternion)])


def distance(a: Transform, b: Transform) -> tuple[float, float]:
    """Distance [m] and rotation angle [deg] between two poses in one frame."""
    metres = float(np.linalg.norm(a.translation - b.translation))
    relative = rotation_vectors(multiplied(a.quaternion * CONJUGATE, b.quaternion))
    return metres, float(np.degrees(np.linalg.norm(relative)))


def interpolate(a: Transform, b: Transform, share: float) -> Transform:
    """Pose at a share (0…1) of the way from a to b: linear in translation, slerp in rotation."""
    turn = Slerp([0.0, 1.0], Rotation.from_quat(np.stack([a.quaternion, b.quaternion])))
    return Transform((1 - share) * a.translation + share * b.translation, turn(share).as_quat())


def _product_table() -> NDArray[np.float64]:
    """Matrix [16, 4] from the products of the components of two quaternions to their product."""
    table = np.zeros((4, 4, 4))
    x, y, z, w = range(4)
    for axis, (second, third) in ((x, (y, z)), (y, (z, x)), (z, (x, y))):
        table[w, axis, axis] = table[axis, w, axis] = 1.0
        table[second, third, axis], table[third, second, axis] = 1.0, -1.0
        table[axis, axis, w] = -1.0
    table[w, w, w] = 1.0
    return table.reshape(16, 4)


_PRODUCT = _product_table()


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
