# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms in SE(3), named `target_from_source`; metres; quaternions x y z w."""

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
        bounded = np.abs(quaternion).max() <= 2.0  # false with nan; no square of it overflows
        norm = math.sqrt(quaternion @ quaternion) if bounded else math.inf
        if not (np.abs(translation).max() <= FARTHEST and abs(norm - 1.0) <= UNIT):
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
        matrix: NDArray[np.float64] = Rotation.from_quat(self.quaternion).as_matrix()
        return matrix

    def __matmul__(self, other: Transform) -> Transform:
        """`a_from_b @ b_from_c` is `a_from_c`."""
        return Transform(
            self.translation + turned(self.quaternion, other.translation),
            multiplied(self.quaternion, other.quaternion),
        )

    def inverse(self) -> Transform:
        """Return `b_from_a`."""
        back = self.quaternion * CONJUGATE
        return Transform(-turned(back, self.translation), back)


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
