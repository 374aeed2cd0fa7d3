# SPDX-License-Identifier: Apache-2.0
"""Mounts of cameras on vehicles: differences between two, and views turned as another's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.camera.camera import Camera
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance

MOUNT_M, MOUNT_DEG = 2.0, 15.0  # largest difference of mounts on vehicles of one kind
SAME_M, SAME_DEG = 0.01, 0.5  # largest difference of mounts of one camera
UPRIGHT = 0.7  # largest vertical part of an optical axis that has a direction on the ground


def mount_difference(camera: str, mount: Transform, mapped: Transform) -> str:
    """Describe how base_from_camera differs from the map's; empty where it hardly does."""
    metres, degrees = distance(mount, mapped)
    if metres <= MOUNT_M and degrees <= MOUNT_DEG:
        return ""
    return (
        f"camera '{camera}' sits {metres:.1f} m and {degrees:.0f}° from where the map's camera sat "
        "on its vehicle, and is warped accordingly: if it is the same vehicle, correct its "
        "extrinsics, or build the map again"
    )


def mount(cameras: Mapping[str, Camera], name: str) -> Transform:
    """base_from_camera of a camera by name; identity where it is not listed."""
    return cameras[name].base_from_camera if name in cameras else Transform.identity()


def has_mount(camera: Camera) -> bool:
    """Whether the rotation on the vehicle is known: optical axes never are a vehicle's axes."""
    return not np.array_equal(camera.base_from_camera.quaternion, Transform.identity().quaternion)


def same_mount(camera: Camera, other: Camera) -> bool:
    """Whether two cameras are known to sit and look alike, as one camera with several lenses."""
    if not (has_mount(camera) and has_mount(other)):
        return False
    metres, degrees = distance(camera.base_from_camera, other.base_from_camera)
    return metres <= SAME_M and degrees <= SAME_DEG


def levelled(camera: Camera) -> NDArray[np.float64]:
    """A camera's rotation [3, 3] in the base frame without roll and pitch.

    They are kept where it looks up or down, or has no mount.
    """
    rotation = camera.base_from_camera.rotation
    x, y, up = rotation[:, 2]
    if not has_mount(camera) or abs(up) > UPRIGHT:
        return rotation
    level: NDArray[np.float64] = _about_vertical(np.arctan2(y, x)) @ BODY_FROM_OPTICAL
    return level


def tilted_as(camera: Camera, other: Camera) -> NDArray[np.float64]:
    """Rotation [3, 3] in the base frame with the roll and pitch of `other` and the camera's yaw."""
    rotations = [item.base_from_camera.rotation for item in (camera, other)]
    yaw, other_yaw = (np.arctan2(rotation[1, 2], rotation[0, 2]) for rotation in rotations)
    tilted: NDArray[np.float64] = _about_vertical(yaw - other_yaw) @ rotations[1]
    return tilted


def _about_vertical(angle: float) -> NDArray[np.float64]:
    """Rotation [3, 3] by an angle [rad] about the vehicle's vertical axis."""
    matrix: NDArray[np.float64] = Rotation.from_euler("z", angle).as_matrix()
    return matrix
