# SPDX-License-Identifier: Apache-2.0
"""Camera pose from matched keypoints: PnP with covariance, essential and fundamental matrix.

A bearing is x y of a point at depth 1 in the optical frame (x right, y down, z forward), free of
distortion. Poses are `world_from_camera`; their errors are 6 numbers: metres of the camera's centre
and a rotation vector (radians), both about the world's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform
from disam_ros.uncertainty import PoseWithCovariance, cross_matrices, retract

Floats = NDArray[np.float64]

MIN_POINTS = 6  # fewer always fit some pose
MIN_MATCHES = 8  # likewise, without depths
ROUNDS = 2  # of inlier selection and refinement
EVALUATIONS = 10  # of the residuals in a refinement, at most
CONVERGENCE = 1e-4  # relative change of cost and step at which it ends
CAUCHY_SCALE = 2.0  # standard deviations, scale of the robust loss
MAX_CONDITION = 1e12  # of the normal matrix: beyond, the points do not determine the pose
RANSAC_SAMPLES = 300
FUNDAMENTAL_SAMPLES = 1000
CONFIDENCE = 0.999  # probability of an outlier-free sample, after which sampling ends


@dataclass(frozen=True, eq=False)
class Solution:
    """A robustly estimated pose. inliers: bool [M], the matches that agree with it."""

    world_from_camera: PoseWithCovariance
    inliers: NDArray[np.bool_]


def solve_pnp(points: Floats, bearings: Floats, tolerance: float, sigma: float) -> Solution | None:
    """Perspective-n-point: the pose from which points [M, 3] of the world have these bearings.

    bearings: [M, 2]; tolerance: of an inlier's reprojection error; sigma: standard deviation of a
    bearing (both pixels over focal length). P3P in RANSAC, refined on the inliers. None where fewer
    than MIN_POINTS agree.
    """
    if len(points) < MIN_POINTS:
        return None
    focal = 1.0 / sigma  # so that one unit is one standard deviation
    matrix = np.diag([focal, focal, 1.0])
    try:
        found, turn, shift, chosen = cv2.solvePnPRansac(
            points,
            bearings * focal,
            matrix,
            None,
            iterationsCount=RANSAC_SAMPLES,
            reprojectionError=tolerance * focal,
            confidence=CONFIDENCE,
            flags=cv2.SOLVEPNP_P3P,
        )
    except cv2.error:  # coincident or collinear points
        return None
    if not found or chosen is None or len(chosen) < MIN_POINTS:
        return None
    rotation = Rotation.from_rotvec(turn[:, 0]).inv()
    pose = Transform(-rotation.apply(shift[:, 0]), rotation.as_quat())
    return _refine(pose, points, bearings, tolerance, sigma)


def _refine(
    pose: Transform, points: Floats, bearings: Floats, tolerance: float, sigma: float
) -> Solution | None:
    """Robust least squares on the inliers, selected again in each round; the covariance is the
    inverse normal matrix, scaled by the residuals."""
    for _ in range(ROUNDS):
        errors = np.linalg.norm(_reprojection(pose, points, bearings)[0], axis=1)
        inliers = errors <= tolerance  # false behind the camera, where errors are nan
        if inliers.sum() < MIN_POINTS:
            return None
        pose = _least_squares(pose, points[inliers], bearings[inliers], sigma)
    residuals, jacobian = _reprojection(pose, points[inliers], bearings[inliers])
    weights = 1.0 / (1.0 + (residuals**2).sum(1) / (CAUCHY_SCALE * sigma) ** 2)
    normal = np.einsum("mij,m,mik->jk", jacobian, weights, jacobian)
    if np.linalg.cond(normal) > MAX_CONDITION:
        return None
    spread = np.einsum("m,mi->", weights, residuals**2) / (2.0 * weights.sum())
    covariance = max(spread, sigma**2) * np.linalg.inv(normal)
    return Solution(PoseWithCovariance(pose, covariance), inliers)


def _least_squares(start: Transform, points: Floats, bearings: Floats, sigma: float) -> Transform:
    """Minimum of the reprojection errors with Cauchy loss."""
    from scipy.optimize import least_squares

    def residuals(step: Floats) -> Floats:
        return _reprojection(retract(start, step), points, bearings)[0].ravel() / sigma

    def jacobian(step: Floats) -> Floats:
        return -_reprojection(retract(start, step), points, bearings)[1].reshape(-1, 6) / sigma

    found = least_squares(
        residuals,
        np.zeros(6),
        jacobian,
        loss="cauchy",
        f_scale=CAUCHY_SCALE,
        ftol=CONVERGENCE,
        xtol=CONVERGENCE,
        gtol=CONVERGENCE,
        max_nfev=EVALUATIONS,
    )
    return retract(start, found.x)


def _reprojection(pose: Transform, points: Floats, bearings: Floats) -> tuple[Floats, Floats]:
    """Reprojection errors [M, 2], observed minus projected, and the derivatives of the projections
    by the pose's error [M, 2, 6]. nan for points behind the camera."""
    camera_from_world = pose.rotation.T
    offsets = points - pose.translation
    in_camera = offsets @ camera_from_world.T
    in_camera[in_camera[:, 2] <= 0] = np.nan
    projected, derivatives = project(in_camera)
    by_shift = -derivatives @ camera_from_world
    by_turn = -by_shift @ cross_matrices(offsets)
    return bearings - projected, np.concatenate([by_shift, by_turn], 2)


def project(points: Floats) -> tuple[Floats, Floats]:
    """Bearings [M, 2] of points [M, 3] in the optical frame, and their derivatives [M, 2, 3]."""
    x, y, z = points.T
    derivatives = np.zeros((len(points), 2, 3))
    derivatives[:, 0, 0] = derivatives[:, 1, 1] = 1 / z
    derivatives[:, 0, 2], derivatives[:, 1, 2] = -x / z**2, -y / z**2
    return np.stack([x / z, y / z], 1), derivatives


def essential_pose(
    here: Floats, there: Floats, tolerance: float
) -> tuple[Transform, NDArray[np.bool_]] | None:
    """Relative pose up to scale of two cameras with matched bearings [M, 2] each.

    Returns there_from_here with a translation of unit length, and the inliers, bool [M]. Essential
    matrix by MAGSAC++ (Barath et al., CVPR 2020). tolerance: off the epipolar line, in units of a
    bearing. None where fewer than MIN_MATCHES agree.
    """
    if len(here) < MIN_MATCHES:
        return None
    matrix, mask = cv2.findEssentialMat(
        here, there, np.eye(3), cv2.USAC_MAGSAC, CONFIDENCE, tolerance
    )
    if matrix is None or matrix.shape != (3, 3):
        return None
    count, rotation, shift, mask = cv2.recoverPose(matrix, here, there, np.eye(3), mask=mask)
    if count < MIN_MATCHES:
        return None
    pose = Transform.from_rotation(np.asarray(shift[:, 0], float), np.asarray(rotation, float))
    return pose, mask[:, 0] > 0


def epipolar_distances(there_from_here: Transform, here: Floats, there: Floats) -> Floats:
    """Sampson distances [M] of matched bearings [M, 2] from the epipolar geometry of a pose
    (Hartley and Zisserman, Multiple View Geometry, 2nd ed., Eq. 11.9), in units of a bearing."""
    shift = there_from_here.translation
    length = float(np.linalg.norm(shift))
    if length < 1e-9:  # rotation alone: no baseline
        turned = np.column_stack([here, np.ones(len(here))]) @ there_from_here.rotation.T
        gaps: Floats = np.linalg.norm(turned[:, :2] / turned[:, 2:] - there, axis=1)
        return gaps
    return np.abs(epipolar_residuals(there_from_here, here, there))


def epipolar_residuals(there_from_here: Transform, here: Floats, there: Floats) -> Floats:
    """`epipolar_distances` with their signs, of a pose with a translation."""
    direction = there_from_here.translation / np.linalg.norm(there_from_here.translation)
    matrix = cross_matrices(direction[None])[0] @ there_from_here.rotation
    a, b = (np.column_stack([x, np.ones(len(x))]) for x in (here, there))
    lines, back = a @ matrix.T, b @ matrix
    slopes = (lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1)
    residuals: Floats = (b * lines).sum(1) / np.sqrt(np.maximum(slopes, 1e-24))
    return residuals


def epipolar_inliers(
    here: NDArray[np.float32], there: NDArray[np.float32], tolerance: float
) -> NDArray[np.bool_]:
    """Matches of pixels [M, 2] of two images that fit one fundamental matrix (MAGSAC++), bool [M].

    For cameras without intrinsics. tolerance: pixels off the epipolar line. All false where fewer
    than MIN_MATCHES agree.
    """
    none = np.zeros(len(here), bool)
    if len(here) < MIN_MATCHES:
        return none
    try:
        _, mask = cv2.findFundamentalMat(
            here, there, cv2.USAC_MAGSAC, tolerance, CONFIDENCE, FUNDAMENTAL_SAMPLES
        )
    except cv2.error:  # coincident or collinear pixels
        return none
    inliers = none if mask is None else mask[:, 0] > 0
    return inliers if inliers.sum() >= MIN_MATCHES else none
