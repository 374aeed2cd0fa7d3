# SPDX-License-Identifier: Apache-2.0
"""Cameras: lens models, intrinsics and extrinsics, and the warp of images between cameras.

Optical frames are x right, y down, z forward; pixel centres are at integers.
"""

from disam_ros.camera.camera import (
    Camera,
    cameras_from_json,
    has_mount,
    heading_of,
    mount,
    mount_difference,
    same_mount,
    same_shape,
    uncalibrated,
)
from disam_ros.camera.info import (
    camera_of_info,
    info_doubts,
    is_calibrated,
    is_rectified,
    size_fault,
    vehicle_camera,
)
from disam_ros.camera.lenses import (
    DISTORTION_MODELS,
    DISTORTIONS,
    EQUIRECTANGULAR,
    FISHEYE,
    PINHOLE,
)
from disam_ros.camera.views import (
    ViewMatch,
    Warp,
    coverage,
    matching_map_cameras,
    quarter_turn,
    same_view,
    virtual_camera,
    warp_between,
    warp_into,
)

__all__ = [
    "DISTORTIONS",
    "DISTORTION_MODELS",
    "EQUIRECTANGULAR",
    "FISHEYE",
    "PINHOLE",
    "Camera",
    "ViewMatch",
    "Warp",
    "camera_of_info",
    "cameras_from_json",
    "coverage",
    "has_mount",
    "heading_of",
    "info_doubts",
    "is_calibrated",
    "is_rectified",
    "matching_map_cameras",
    "mount",
    "mount_difference",
    "quarter_turn",
    "same_mount",
    "same_shape",
    "same_view",
    "size_fault",
    "uncalibrated",
    "vehicle_camera",
    "virtual_camera",
    "warp_between",
    "warp_into",
]
