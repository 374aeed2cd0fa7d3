# SPDX-License-Identifier: Apache-2.0
"""Lens models: rays to pixels and back, of OpenCV's pinhole, the equidistant fisheye and panoramas.

    pinhole          OpenCV's polynomials (ROS: plumb_bob, rational_polynomial)
    fisheye          Kannala & Brandt, PAMI 2006, in OpenCV's form (ROS: equidistant):
                     θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) off the axis, θ the angle to it
    equirectangular  longitude and latitude of the whole sphere

Below, pixels are normalized: (pixel − principal point) / focal length.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

PINHOLE, FISHEYE, EQUIRECTANGULAR = "pinhole", "fisheye", "equirectangular"
DISTORTION_MODELS = {
    "": PINHOLE,
    "plumb_bob": PINHOLE,
    "rational_polynomial": PINHOLE,
    "radtan": PINHOLE,  # Kalibr's name
    "fisheye": FISHEYE,
    "equidistant": FISHEYE,
    "equirectangular": EQUIRECTANGULAR,
}  # lens model by CameraInfo.distortion_model; ROS has no name for the last
DISTORTIONS = {PINHOLE: (0, 4, 5, 8, 12, 14), FISHEYE: (4,), EQUIRECTANGULAR: (0,)}

CHUNK = 1 << 15  # points at once: OpenCV makes 30 doubles of derivatives for each
STEPS = 4096  # of the angle, in the search for the one from which a polynomial folds back
NEWTON_STEPS = 12
Floats = NDArray[np.float64]


def project(model: str, distortion: tuple[float, ...], rays: Floats) -> Floats:
    """Project rays [K, 3] of any length: normalized pixels [K, 2].

    A ray beyond `widest_angle`, which no lens shows, gives the pixel at that angle.
    """
    if model == EQUIRECTANGULAR:
        x, y, z = rays.T
        return np.column_stack([np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))])
    radius = np.hypot(rays[:, 0], rays[:, 1])
    angle = np.minimum(np.arctan2(radius, rays[:, 2]), widest_angle(model, distortion))
    across = rays[:, :2] / np.maximum(radius, np.finfo(float).tiny)[:, None]
    if model == FISHEYE:
        return np.asarray(across * _bent(angle, distortion)[:, None], np.float64)
    points = across * np.tan(angle)[:, None]
    return points if not distortion else _distorted(points, distortion)


def unproject(model: str, distortion: tuple[float, ...], points: Floats) -> Floats:
    """Rays [K, 3] of normalized pixels [K, 2]: of a pinhole at depth 1, else of unit length."""
    if model == EQUIRECTANGULAR:
        longitude, latitude = points.T
        level = np.cos(latitude)
        return np.column_stack(
            [level * np.sin(longitude), np.sin(latitude), level * np.cos(longitude)]
        )
    if model == FISHEYE:
        bent = np.hypot(points[:, 0], points[:, 1])
        angle = _unbent(bent, distortion)
        across = points / np.maximum(bent, np.finfo(float).tiny)[:, None]
        return np.column_stack([across * np.sin(angle)[:, None], np.cos(angle)])
    if distortion and len(points):
        matrix, numbers = np.eye(3), np.array(distortion)
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-12)
        ideal = cv2.undistortPointsIter(
            points[:, None], matrix, numbers, np.eye(3), np.eye(3), stop
        )
        points = np.asarray(ideal[:, 0], np.float64)
    return np.column_stack([points, np.ones(len(points))])


@cache
def widest_angle(model: str, distortion: tuple[float, ...]) -> float:
    """Angle [rad] to the optical axis up to which every ray has a pixel of its own.

    Where a polynomial of distortion folds back, rays farther out would show twice.
    """
    if model == EQUIRECTANGULAR:
        return float(np.pi)
    limit = np.pi if model == FISHEYE else np.pi / 2
    angles: Floats = np.linspace(0.0, limit, STEPS, endpoint=model == FISHEYE, dtype=np.float64)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        radii = _bent(angles, distortion) if model == FISHEYE else _radial(angles, distortion)
    rising = np.diff(radii) > 0
    return float(angles[-1] if rising.all() else angles[rising.argmin()])


def _bent(angle: Floats, distortion: tuple[float, ...]) -> Floats:
    """Radius of a fisheye's pixel by the angle [rad] of its ray."""
    square, factor = angle**2, np.ones_like(angle)
    for power, k in enumerate(distortion, 1):
        factor = factor + k * square**power
    return angle * factor


def _unbent(bent: Floats, distortion: tuple[float, ...]) -> Floats:
    """Invert `_bent` up to the widest angle, by Newton's method."""
    widest = widest_angle(FISHEYE, distortion)
    angle = np.clip(bent, 0.0, widest)
    for _ in range(NEWTON_STEPS if any(distortion) else 0):
        slope = np.ones_like(angle)
        for power, k in enumerate(distortion, 1):
            slope += (2 * power + 1) * k * angle ** (2 * power)
        step = (_bent(angle, distortion) - bent) / np.where(np.abs(slope) > 1e-6, slope, 1e-6)
        angle = np.clip(angle - step, 0.0, widest)
    return angle


def _radial(angle: Floats, distortion: tuple[float, ...]) -> Floats:
    """Radius by the pinhole polynomial's radial part, which alone decides where it folds."""
    k = np.zeros(8)
    k[: min(len(distortion), 8)] = distortion[:8]
    radius = np.tan(angle)
    s = radius**2
    above, below = 1 + s * (k[0] + s * (k[1] + s * k[4])), 1 + s * (k[5] + s * (k[6] + s * k[7]))
    return np.where(below > 0, radius * above / below, -np.inf)


def _distorted(points: Floats, distortion: tuple[float, ...]) -> Floats:
    """Distort ideal points [K, 2] of a pinhole."""
    still, numbers, distorted = np.zeros(3), np.array(distortion), np.empty_like(points)
    rays = np.column_stack([points, np.ones(len(points))])
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        pixels, _ = cv2.projectPoints(rays[part], still, still, np.eye(3), numbers)
        distorted[part] = pixels[:, 0]
    return distorted
