# SPDX-License-Identifier: Apache-2.0
"""Depths of a map's keypoints from other map images with known poses that see the same points."""

from __future__ import annotations

import numpy as np

from disam_ros.geometry import Transform

NOISE = 1.0  # pixels, standard deviation of a keypoint
TOLERANCE = 3.0  # standard deviations by which what is seen may differ from what is expected
RELATIVE = 0.1  # standard deviation of a depth over the depth, at most: the least parallax


def inverse_depths(
    here: np.ndarray, there: np.ndarray, there_from_here: Transform, noise: float
) -> np.ndarray:
    """Inverse depths of points in `here` and their precisions (1/σ²), float64 [2, M].

    here, there: view directions [M, 2] of the same points in two images; noise: standard deviation
    of a direction. Precision 0 where a point was not seen (nan), lies behind a camera or off its
    epipolar line. With a = R (x, y, 1) and inverse depth ρ, the point appears `there` at
    (a + ρ t)₁₂ / (a + ρ t)₃, so u gives ρ (t₁₂ − u t₃) = u a₃ − a₁₂: least squares for ρ.
    """
    rotated = np.column_stack([here, np.ones(len(here))]) @ there_from_here.rotation.T
    shift = there_from_here.translation
    slopes = shift[:2] - there * shift[2]
    offsets = there * rotated[:, 2:] - rotated[:, :2]
    squared = np.maximum((slopes**2).sum(1), 1e-12)
    inverse = (slopes * offsets).sum(1) / squared
    ahead = rotated[:, 2] + inverse * shift[2]  # depth there over depth here
    errors = np.linalg.norm(slopes * inverse[:, None] - offsets, axis=1)
    with np.errstate(invalid="ignore"):
        good = (inverse > 0) & (ahead > 0) & (errors <= TOLERANCE * noise * ahead)
    return np.where(good, [inverse, squared / (noise * ahead) ** 2], 0.0)


def fused_depths(found: list[np.ndarray], count: int) -> np.ndarray:
    """Depths float64 [count] from what images tell, each [2, count] of inverse_depths; nan where
    they leave more doubt than RELATIVE. Images that contradict the most precise one are left out.
    """
    inverse, precision = np.stack([np.zeros((2, count)), *found], 1)
    best = precision.argmax(0), np.arange(count)
    gap = np.abs(inverse - inverse[best]) * np.sqrt(precision)
    weights = np.where(gap <= TOLERANCE, precision, 0.0)
    total = weights.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weights * inverse).sum(0) / total
        return np.where(mean * np.sqrt(total) >= 1.0 / RELATIVE, 1.0 / mean, np.nan)
