# SPDX-License-Identifier: Apache-2.0
"""A camera of every lens model, mounts, and scenes at infinity that any of them sees."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.camera import EQUIRECTANGULAR, FISHEYE, Camera
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform

SPHERE = 640 / (2 * np.pi)
CAMERAS = {
    "pinhole": Camera(640, 480, 400.0, 401.0, 322.0, 238.0),
    "plumb_bob": Camera(640, 480, 400.0, 401.0, 322.0, 238.0, (-0.3, 0.1, 1e-3, -2e-3, 0.01)),
    "rational": Camera(
        640, 480, 400.0, 401.0, 322.0, 238.0, (0.5, 0.1, 1e-3, -2e-3, 0.01, 0.4, 0.1, 0.02)
    ),
    "fisheye": Camera(
        640, 480, 200.0, 201.0, 322.0, 238.0, (0.1, -0.02, 3e-3, -1e-3), model=FISHEYE
    ),
    "panorama": Camera(640, 320, SPHERE, SPHERE, 319.5, 159.5, model=EQUIRECTANGULAR),
}

AHEAD = Transform.from_rotation(np.array([0.8, 0.0, 1.5]), BODY_FROM_OPTICAL)


def pinhole(degrees, width=320, height=240, mount=AHEAD):
    focal = width / 2 / np.tan(np.radians(degrees) / 2)
    return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, (), mount)


def fisheye(degrees=180, side=480, mount=AHEAD):
    focal = side / np.radians(degrees)
    centre = (side - 1) / 2
    return Camera(side, side, focal, focal, centre, centre, (0.0,) * 4, mount, FISHEYE)


def turned(roll=0.0, pitch=0.0, yaw=0.0, height=1.5):
    """A mount that looks ahead but for these angles [deg] of the vehicle's axes."""
    turn = Rotation.from_euler("ZYX", [yaw, pitch, roll], degrees=True).as_matrix()
    return Transform.from_rotation(np.array([0.8, 0.0, height]), turn @ BODY_FROM_OPTICAL)


def rays_of(camera):
    """In the base frame, unit [h, w, 3]."""
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = camera.rays(np.column_stack([x.ravel(), y.ravel()]).astype(float))
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True) @ camera.base_from_camera.rotation.T
    return rays.reshape(camera.height, camera.width, 3)


def picture_of(camera, seed=0, detail=5.0):
    """A smooth scene at infinity: colours by direction in the base frame, uint8 [h, w, 3]; detail:
    waves in a radian, about."""
    rays, random = rays_of(camera), np.random.default_rng(seed)
    waves = np.zeros(rays.shape)
    for _ in range(6):
        turn, phase = random.normal(0.0, detail, (3, 3)), random.uniform(0.0, 6.0, 3)
        waves += np.sin(rays @ turn + phase)
    return np.clip(127.5 + 20.0 * waves, 0, 255).round().astype(np.uint8)
