# SPDX-License-Identifier: Apache-2.0
"""A first honest covariance of a retrieved pose: how far apart the candidates lie."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform

TEMPERATURE = 0.05  # fine-similarity difference that makes a candidate e times less likely
ROTATION_FLOOR = np.radians(2.0)  # standard deviation, between a map image and its query


def candidate_covariance(poses: list[Transform], scores: np.ndarray, spacing: float) -> np.ndarray:
    """Second moment of the candidates about the best one, plus the map's own coarseness.

    poses: `map_from_base` of the candidates, best first; scores: fine similarities [n]; spacing:
    metres between map images. Returns float64 [6, 6], order x y z rotX rotY rotZ about the map's
    axes (REP-103), positive definite: candidates that agree leave half the spacing (1 σ) and 2°.
    It is NOT calibrated against true errors.
    """
    weights = np.exp((np.asarray(scores, float) - scores[0]) / TEMPERATURE)
    weights /= weights.sum()
    best = poses[0]
    best_rotation = Rotation.from_quat(best.quaternion)
    offsets = np.zeros((len(poses), 6))
    for offset, pose in zip(offsets, poses, strict=True):
        offset[:3] = pose.translation - best.translation
        offset[3:] = (Rotation.from_quat(pose.quaternion) * best_rotation.inv()).as_rotvec()
    floor = np.diag([max(spacing / 2, 0.05) ** 2] * 3 + [ROTATION_FLOOR**2] * 3)
    return (weights[:, None] * offsets).T @ offsets + floor
