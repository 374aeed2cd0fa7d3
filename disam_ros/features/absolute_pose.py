# SPDX-License-Identifier: Apache-2.0
"""Where a camera stood, from points it sees: robust estimates, their refinement and covariance.

A view direction is x y of a point at depth 1 in the optical frame (x right, y down, z forward),
free of distortion. Poses are `world_from_camera`; their errors are 6 numbers: metres of the
camera's centre and a rotation vector (radians), both along the world's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform
from disam_ros.uncertainty import cross_matrices

LEAST_POINTS = 6  # fewer always fit some pose
LEAST_VIEWS = 8  # likewise, where no depth is known
ROUNDS = 10  # of refinement
LEAST_STEP = 1e-9  # metres and radians, below which it ends
LARGEST_CONDITION = 1e12  # of its normal equations: beyond, the points do not settle the pose
SAMPLES = 300  # random samples tried at most
VIEW_SAMPLES = 1000  # likewise, where no depth is known
CONFIDENCE = 0.999  # of having drawn a sample without outliers, after which no more are tried


@dataclass(frozen=True)
class PoseEstimate:
    """A pose that explains points. inliers: bool [M]. covariance: [6, 6] of the pose's error."""

    world_from_camera: Transform
    inliers: np.ndarray
    covariance: np.ndarray


def pose_from_points(
    points: np.ndarray, views: np.ndarray, tolerance: float, noise: float
) -> PoseEstimate | None:
    """The pose from which points [M, 3] of the world appear in directions `views` [M, 2].

    tolerance: of an inlier's direction; noise: standard deviation of a direction (both pixels over
    focal length). A random sample consensus of three-point poses, refined on its inliers. None
    where fewer than LEAST_POINTS agree.
    """
    if len(points) < LEAST_POINTS:
        return None
    focal = 1.0 / noise  # so that one unit is one standard deviation
    matrix = np.diag([focal, focal, 1.0])
    try:
        found, turn, shift, chosen = cv2.solvePnPRansac(
            points,
            views * focal,
            matrix,
            None,
            iterationsCount=SAMPLES,
            reprojectionError=tolerance * focal,
            confidence=CONFIDENCE,
            flags=cv2.SOLVEPNP_P3P,
        )
    except cv2.error:  # points that lie in one place or line
        return None
    if not found or chosen is None or len(chosen) < LEAST_POINTS:
        return None
    rotation = Rotation.from_rotvec(turn[:, 0]).inv()
    pose = Transform(-rotation.apply(shift[:, 0]), rotation.as_quat())
    return _refined(pose, points, views, tolerance, noise)


def _refined(
    pose: Transform, points: np.ndarray, views: np.ndarray, tolerance: float, noise: float
) -> PoseEstimate | None:
    """Gauss-Newton with Cauchy weights on the inliers, which are chosen anew in every round."""
    for _ in range(ROUNDS):
        errors = np.linalg.norm(_residuals(pose, points, views)[0], axis=1)
        inliers = errors <= tolerance  # false behind the camera, where errors are no numbers
        if inliers.sum() < LEAST_POINTS:
            return None
        residuals, jacobian = _residuals(pose, points[inliers], views[inliers])
        weights = 1.0 / (1.0 + (residuals**2).sum(1) / (2.0 * noise) ** 2)
        normal = np.einsum("mij,m,mik->jk", jacobian, weights, jacobian)
        if np.linalg.cond(normal) > LARGEST_CONDITION:
            return None
        step = np.linalg.solve(normal, np.einsum("mij,m,mi->j", jacobian, weights, residuals))
        if np.abs(step).max() < LEAST_STEP:
            break
        pose = _moved(pose, step)
    spread = np.einsum("m,mi->", weights, residuals**2) / (2.0 * weights.sum())
    return PoseEstimate(pose, inliers, max(spread, noise**2) * np.linalg.inv(normal))


def _residuals(
    pose: Transform, points: np.ndarray, views: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Seen minus expected directions [M, 2] and what the expected ones change by with the pose's
    error, [M, 2, 6]. Not a number for points behind the camera."""
    camera_from_world = pose.rotation.T
    offsets = points - pose.translation
    seen = offsets @ camera_from_world.T
    x, y, z = seen.T
    z = np.where(z > 0, z, np.nan)
    project = np.zeros((len(points), 2, 3))
    project[:, 0, 0] = project[:, 1, 1] = 1 / z
    project[:, 0, 2], project[:, 1, 2] = -x / z**2, -y / z**2
    by_shift = -project @ camera_from_world
    by_turn = -by_shift @ cross_matrices(offsets)
    return views - np.stack([x / z, y / z], 1), np.concatenate([by_shift, by_turn], 2)


def _moved(pose: Transform, step: np.ndarray) -> Transform:
    rotation = Rotation.from_rotvec(step[3:]) * Rotation.from_quat(pose.quaternion)
    return Transform(pose.translation + step[:3], rotation.as_quat())


def turn_from_views(
    here: np.ndarray, there: np.ndarray, tolerance: float
) -> tuple[Transform, np.ndarray] | None:
    """How two cameras stand that see the same points in directions [M, 2] each.

    Returns there_from_here, whose translation has unit length as its true one cannot be seen, and
    the inliers, bool [M]. By the essential matrix (MAGSAC++; Barath et al., CVPR 2020). None where
    fewer than LEAST_VIEWS agree.
    """
    if len(here) < LEAST_VIEWS:
        return None
    matrix, mask = cv2.findEssentialMat(
        here, there, np.eye(3), cv2.USAC_MAGSAC, CONFIDENCE, tolerance
    )
    if matrix is None or matrix.shape != (3, 3):
        return None
    count, rotation, shift, mask = cv2.recoverPose(matrix, here, there, np.eye(3), mask=mask)
    if count < LEAST_VIEWS:
        return None
    return Transform.from_rotation(shift[:, 0], rotation), mask[:, 0] > 0


def agreeing_points(here: np.ndarray, there: np.ndarray, tolerance: float) -> np.ndarray:
    """Which pixels [M, 2] of two images may be of the same points of one rigid scene, bool [M].

    tolerance: pixels off the epipolar line. Of cameras whose intrinsics are not known: by the
    fundamental matrix (MAGSAC++). None is where fewer than LEAST_VIEWS agree.
    """
    none = np.zeros(len(here), bool)
    if len(here) < LEAST_VIEWS:
        return none
    try:
        _, mask = cv2.findFundamentalMat(
            here, there, cv2.USAC_MAGSAC, tolerance, CONFIDENCE, VIEW_SAMPLES
        )
    except cv2.error:  # points that lie in one place or line
        return none
    inliers = none if mask is None else mask[:, 0] > 0
    return inliers if inliers.sum() >= LEAST_VIEWS else none
