# SPDX-License-Identifier: Apache-2.0
"""Poses of a body over time."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.errors import DatasetError
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS, Track

logger = logging.getLogger(__name__)

BOOT = 3e8  # stamps below it are no dates of robots [s]
AHEAD = {"TAI and UTC": 37.0, "GPS time and UTC": 18.0}  # since 2017 [s]
TILT = 20.0  # between the vehicle's up and the map's, beyond which the map is levelled [deg]
STRIDE = 0.5  # length of a piece of motion whose direction is judged [m]
STRIDES = 20  # fewer do not tell a direction
ALONG = 0.8  # least mean cosine between the motion and an axis along which a body moves


@dataclass(frozen=True)
class Trajectory:
    """Poses of a body over time in a map."""

    stamps: NDArray[np.int64]  # [N] [ns], strictly increasing
    poses: Sequence[Transform]  # map_from_body [N]
    origin: Origin | None = None  # of the map frame, x east and y north; None: unknown
    fault: str = ""  # why no poses are known; empty: they are

    @classmethod
    def unknown(cls, fault: str) -> Trajectory:
        """A trajectory without poses."""
        return cls(np.zeros(0, np.int64), (), fault=fault)

    @property
    def track(self) -> Track:
        """Stamps and poses."""
        return Track(self.stamps, self.poses)

    @property
    def identity(self) -> str:
        """A hash of all stamps and poses."""
        rows = np.array([[*p.translation, *p.quaternion] for p in self.poses])
        return hashlib.sha256(self.stamps.tobytes() + rows.tobytes()).hexdigest()

    def shifted(self, seconds: float) -> Trajectory:
        """Return the trajectory `seconds` later."""
        return replace(self, stamps=self.stamps + round(seconds * NANOSECONDS))

    def for_base(self, base_from_body: Transform, assumed: bool = False) -> Trajectory:
        """Return map_from_base, with z up, of the poses of a body that is fixed to the vehicle.

        assumed: the body is a camera whose mount nobody knows, so that it does not tell where up
        is: the world stays that of the file, unless it is the first camera's own, as of a visual
        SLAM. Raises DatasetError where a base of known mount would drive up or down.
        """
        body_from_base = base_from_body.inverse()
        poses = [pose @ body_from_base for pose in self.poses]
        if assumed and not self._begins_at_identity():
            logger.warning(
                "the poses of a camera whose mount is unknown stay in the world of their file: if "
                "its z axis does not point up, say the mount (--base-from-camera)"
            )
            return replace(self, poses=poses)
        _require_forward(poses)
        level = levelling(poses)
        if level is None:
            return replace(self, poses=poses)
        return replace(self, poses=[level @ pose for pose in poses], origin=None)

    def _begins_at_identity(self) -> bool:
        """Whether the world's axes are those of the first body."""
        turn = Rotation.from_quat(self.poses[0].quaternion).magnitude()
        return bool(np.degrees(turn) < TILT)


def span_text(stamps: Sequence[int] | NDArray[np.int64]) -> str:
    """Describe the time between the first and the last of some stamps [ns]."""
    return f"{min(stamps) / NANOSECONDS:.3f} to {max(stamps) / NANOSECONDS:.3f} s"


def clock_hint(stamps: Sequence[int] | NDArray[np.int64], first_ns: int) -> str:
    """Guess why the stamps [ns] of poses and the first of images are of different clocks."""
    if not len(stamps):
        return ""
    first, gap = min(stamps), (first_ns - int(min(stamps))) / NANOSECONDS
    if (min(first_ns, first) < BOOT * NANOSECONDS) != (max(first_ns, first) < BOOT * NANOSECONDS):
        return " (one clock counts from the start of a device or of a simulation)"
    for name, ahead in AHEAD.items():
        if abs(abs(gap) - ahead) < 1.0:
            return f" ({ahead:g} s apart, as {name} are)"
    return f" ({gap:+.1f} s apart)" if gap else ""


def levelling(poses: Sequence[Transform]) -> Transform | None:
    """Level a map: the turn that makes the mean up of map_from_base [N] its z axis.

    None where that is within TILT of it.
    """
    up = np.mean([Rotation.from_quat(p.quaternion).apply([0, 0, 1]) for p in poses], 0)
    tilt = np.degrees(np.arccos(np.clip(up[2] / np.linalg.norm(up), -1, 1)))
    if not tilt > TILT:
        return None
    logger.warning(
        "the trajectory's z axis is %.0f° from the vehicle's up: the map gets z up",
        tilt,
    )
    turn, _ = Rotation.align_vectors([[0, 0, 1]], [up])
    return Transform.from_rotation(np.zeros(3), turn.as_matrix())


def _require_forward(poses: Sequence[Transform]) -> None:
    """Raise DatasetError where a body moves along its own z axis: it is no vehicle with z up."""
    points = np.stack([pose.translation for pose in poses])
    travelled = np.cumsum(np.r_[0.0, np.linalg.norm(np.diff(points, axis=0), axis=1)])
    _, rows = np.unique(np.floor(travelled / STRIDE), return_index=True)
    strides = np.diff(points[rows], axis=0)
    lengths = np.linalg.norm(strides, axis=1)
    moves = lengths > STRIDE / 2
    if moves.sum() < STRIDES:
        return
    turns = Rotation.from_quat(np.stack([poses[row].quaternion for row in rows[:-1][moves]]))
    along = np.abs(turns.inv().apply(strides[moves] / lengths[moves, None])).mean(0)
    if along[2] > ALONG:
        raise DatasetError(
            "the poses move along their own z axis, which a vehicle's points up: are they of a "
            "camera (z ahead), or of a frame with y up? Name it with --trajectory-frame, or "
            "convert them to x ahead, y left, z up"
        )
    if along[1] > ALONG:
        logger.warning(
            "the trajectory's poses move along their own y axis, which points left: if the "
            "vehicle does not drive sideways, convert them to x ahead, y left, z up"
        )
