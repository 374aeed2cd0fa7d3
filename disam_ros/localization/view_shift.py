# SPDX-License-Identifier: Apache-2.0
"""Yaw, pitch and lateral offset from the shift between two views (not in the papers).

The shift at which two feature maps resemble each other most (models/similarity.py) is an angle
between the views. A camera that is turned by yaw to the right of the map image's, and x metres to
its right, sees the map image's scene farther left, by

    angle = −GAIN (yaw + x / DEPTH)

and one that is pitched up, or higher, sees it lower down, alike. Each is a measurement of a Kalman
filter: the covariance of the pose decides how much of the angle is turn and how much is offset. In
a bend, where neighbouring map images are turned against each other, that is turn and, by their
correlation, progress along the track.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.camera import Camera
from disam_ros.geometry import Transform
from disam_ros.uncertainty import PoseWithCovariance

DEPTH = 15.0  # of what a road's views show, its harmonic mean [m]
AXES = SIDEWAYS, UPRIGHT = 0, 1  # of an angle
# 1 for a turn alone; less sideways in bends, where what lies ahead also comes nearer, and upright,
# where a shift is a fraction of a cell and the best one is drawn to a whole one.
GAIN, UPRIGHT_GAIN = 0.9, 0.55
RELATIVE = 0.1  # standard deviation in proportion to the angle
EXACT = 1e-6  # shares of the view that differ by less are equal
CONFLICT = 10.8  # chi-squared quantile 0.999 of one degree of freedom
ASSUMED = 4.0  # innovations that the calibration counts as
MEMORY = 30.0  # of a drive's last innovations, about, its errors are estimated by
LEAST_SCALE, LARGEST_SCALE = 0.05, 4.0  # of variances


def view_angle(
    shift: float,
    widest: float,
    camera: Camera | None,
    known: Camera | None,
    axis: int = SIDEWAYS,
) -> float | None:
    """Angle [rad] by which a view's middle has moved to the right of a known one's, or down.

    shift: as share of the view (Candidate.shift); widest: the largest that was compared, 0 for a
    descriptor without cells. camera, known: of the query and the map image. None where one has no
    intrinsics, and for the widest shift: the best one may lie beyond.
    """
    if camera is None or known is None or not (camera.calibrated and known.calibrated):
        return None
    if abs(shift) >= widest - EXACT:
        return None
    moved, middle = (
        np.arctan((share * size - centre) / focal)
        for share, (size, centre, focal) in (
            (0.5 + shift, _lens(camera, axis)),
            (0.5, _lens(known, axis)),
        )
    )
    return float(moved - middle)


def _lens(camera: Camera, axis: int) -> tuple[float, float, float]:
    """Size of the image, its centre and the focal length along an axis [px]."""
    if axis == SIDEWAYS:
        return camera.width, camera.cx, camera.fx
    return camera.height, camera.cy, camera.fy


def expected_angle(
    map_from_camera: Transform, map_from_known: Transform, axis: int = SIDEWAYS
) -> float:
    """Angle [rad] between the views of two cameras by their poses."""
    relative = map_from_known.inverse() @ map_from_camera
    turn = Rotation.from_quat(relative.quaternion).as_rotvec()
    return float(_row(np.eye(3), axis) @ np.concatenate([relative.translation, turn]))


def _row(axes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Derivatives [6] of an angle by the pose's error. axes: of the camera, its columns [3, 3]."""
    right, down = axes[:, 0], axes[:, 1]
    if axis == SIDEWAYS:
        return -GAIN * np.concatenate([right / DEPTH, down])
    return UPRIGHT_GAIN * np.concatenate([-down / DEPTH, right])


def with_view_angle(
    map_from_camera: PoseWithCovariance,
    map_from_known: Transform,
    angle: float,
    deviation: float,
    others: NDArray[np.float64] | None = None,
    axis: int = SIDEWAYS,
) -> tuple[PoseWithCovariance, float]:
    """A camera's pose after the measurement of its angle [rad] to a map image's view, and the
    normalized innovation squared, about 1 where the covariance is true.

    deviation: standard deviation of the angle [rad]. others: covariance [6, 6] of further errors of
    the pose, which are noise of the measurement and stay as they are (Schmidt's filter); None:
    there are none. A measurement that contradicts the pose is left out: another lane, or another
    place.
    """
    pose, covariance = map_from_camera.pose, map_from_camera.covariance
    innovation = angle - expected_angle(pose, map_from_known, axis)
    row = _row(map_from_known.rotation, axis)
    noise = deviation**2 + (RELATIVE * angle) ** 2
    noise += 0.0 if others is None else float(row @ others @ row)
    variance = float(row @ covariance @ row) + noise
    distance = float(innovation**2 / variance)
    if distance > CONFLICT:
        return map_from_camera, distance
    return map_from_camera.updated(row, innovation, noise), distance


class ErrorScale:
    """Estimates how large the errors that view angles show are over a drive, by its innovations.

    A drive in the lane of the map errs less than the calibration says, one beside it more: the mean
    of the normalized innovations squared is the ratio of the variances (adaptive estimation: Mehra,
    On the identification of variances and adaptive Kalman filtering, IEEE TAC 1970).
    """

    def __init__(self) -> None:
        self._count = self._sum = ASSUMED

    @property
    def value(self) -> float:
        """Variances over those of the calibration."""
        return float(np.clip(self._sum / self._count, LEAST_SCALE, LARGEST_SCALE))

    def add(self, distance: float, share: float) -> None:
        """Take an innovation. distance: its normalized square by the variances of `value`; share:
        of the image that is independent of earlier ones, 0…1."""
        kept = 1.0 - share / MEMORY
        self._count = kept * self._count + share
        self._sum = kept * self._sum + share * self.value * min(distance, CONFLICT)
