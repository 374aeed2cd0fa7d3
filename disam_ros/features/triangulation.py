# SPDX-License-Identifier: Apache-2.0
"""Inverse depths of keypoints from a second view of known relative pose, and their fusion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.features.keypoints import Keypoints
from disam_ros.geometry import Transform

PIXEL_SIGMA = 1.0  # pixels, standard deviation of a keypoint
GATE = 3.0  # standard deviations within which measurements agree
MAX_RELATIVE_SIGMA = 0.1  # standard deviation of a depth over the depth: demands parallax


def inverse_depths(
    bearings_here: NDArray[Any],
    bearings_there: NDArray[Any],
    there_from_here: Transform,
    sigma: float,
) -> NDArray[np.float64]:
    """Inverse depths of keypoints here and their precisions (1/σ²), float64 [2, M].

    bearings_here, bearings_there: [M, 2], of the same points in two images; sigma: standard
    deviation of a bearing. Precision 0 where a point was not matched (nan), lies behind a camera or
    off its epipolar line. With a = R (x, y, 1) and inverse depth ρ, the point appears there at
    (a + ρ t)₁₂ / (a + ρ t)₃, so u gives ρ (t₁₂ − u t₃) = u a₃ − a₁₂: least squares for ρ.
    """
    rotated = (
        np.column_stack([bearings_here, np.ones(len(bearings_here))]) @ there_from_here.rotation.T
    )
    shift = there_from_here.translation
    slopes = shift[:2] - bearings_there * shift[2]
    offsets = bearings_there * rotated[:, 2:] - rotated[:, :2]
    squared = np.maximum((slopes**2).sum(1), 1e-12)
    inverse = (slopes * offsets).sum(1) / squared
    ahead = rotated[:, 2] + inverse * shift[2]  # depth there over depth here
    errors = np.linalg.norm(slopes * inverse[:, None] - offsets, axis=1)
    with np.errstate(invalid="ignore"):
        good = (inverse > 0) & (ahead > 0) & (errors <= GATE * sigma * ahead)
    return np.where(good, [inverse, squared / (sigma * ahead) ** 2], 0.0)


def fuse_depths(measurements: list[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Depths float64 [count] fused from several images, each [2, count] of inverse_depths.

    nan where their standard deviation exceeds MAX_RELATIVE_SIGMA. Measurements that contradict the
    most precise one are left out.
    """
    inverse, precision = np.stack([np.zeros((2, count)), *measurements], 1)
    best = precision.argmax(0), np.arange(count)
    gap = np.abs(inverse - inverse[best]) * np.sqrt(precision)
    weights = np.where(gap <= GATE, precision, 0.0)
    total = weights.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weights * inverse).sum(0) / total
        precise = mean * np.sqrt(total) >= 1.0 / MAX_RELATIVE_SIGMA
        return np.where(precise, 1.0 / mean, np.nan)


def update_inverse_depths(
    keypoints: Keypoints, rows: NDArray[Any], inverse: NDArray[Any], precision: NDArray[Any]
) -> None:
    """Fuse another image's measurement of some keypoints' inverse depths, in place.

    A keypoint whose measurements contradict each other is taken for a wrong match: its depth
    becomes unknown.
    """
    before, certainty = keypoints.inverse_depths[rows], keypoints.precisions[rows]
    total = np.maximum(certainty + precision, 1e-12)
    gap = (before - inverse) ** 2 * certainty * precision / total  # over the sum of variances
    agree = gap <= GATE**2
    mean = (certainty * before + precision * inverse) / total
    keypoints.inverse_depths[rows] = np.where(agree, mean, 0.0)
    keypoints.precisions[rows] = np.where(agree, certainty + precision, 0.0)
