# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms in SE(3), named `target_from_source`; metres; quaternions x y z w."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from disam_ros.errors import GeometryError

# Optical camera axes (x right, y down, z forward) seen from body axes (x forward, y left, z up).
BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Transform:
    """A rigid transform `a_from_b`: maps coordinates of a point in frame b to frame a.

    Raises GeometryError unless both are finite and the quaternion is a unit one.
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
        norm = np.linalg.norm(quaternion)
        if not (np.isfinite(translation).all() and np.isfinite(norm)) or abs(norm - 1.0) > 1e-2:
            raise GeometryError(
                f"expected finite metres and a unit quaternion x y z w, got translation "
                f"{translation.tolist()} and quaternion {quaternion.tolist()}; check its source"
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
        matrix: NDArray[np.float64] = self._turn.as_matrix()
        return matrix

    @cached_property
    def _turn(self) -> Rotation:
        """The rotation, made once: checking a quaternion takes longer than turning by it."""
        return Rotation.from_quat(self.quaternion)

    def __matmul__(self, other: Transform) -> Transform:
        """`a_from_b @ b_from_c` is `a_from_c`."""
        return Transform(
            self.translation + self._turn.apply(other.translation),
            (self._turn * other._turn).as_quat(),
        )

    def inverse(self) -> Transform:
        """Return `b_from_a`."""
        back = self._turn.inv()
        return Transform(-back.apply(self.translation), back.as_quat())


def compose(a_from_b: NDArray[np.float64], b_from_c: Transform) -> NDArray[np.float64]:
    """Compose many poses at once: [N, 7] → `a_from_c` [N, 7], tx ty tz qx qy qz qw."""
    rotations = Rotation.from_quat(a_from_b[:, 3:])
    positions = a_from_b[:, :3] + rotations.apply(b_from_c.translation)
    return np.hstack([positions, (rotations * Rotation.from_quat(b_from_c.quaternion)).as_quat()])


def distance(a: Transform, b: Transform) -> tuple[float, float]:
    """Distance [m] and rotation angle [deg] between two poses in one frame."""
    metres = float(np.linalg.norm(a.translation - b.translation))
    relative = Rotation.from_quat(a.quaternion).inv() * Rotation.from_quat(b.quaternion)
    return metres, float(np.degrees(relative.magnitude()))


def interpolate(a: Transform, b: Transform, share: float) -> Transform:
    """Pose at a share (0…1) of the way from a to b: linear in translation, slerp in rotation."""
    turn = Slerp([0.0, 1.0], Rotation.from_quat(np.stack([a.quaternion, b.quaternion])))
    return Transform((1 - share) * a.translation + share * b.translation, turn(share).as_quat())
