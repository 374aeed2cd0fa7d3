# SPDX-License-Identifier: Apache-2.0
"""Camera pose from matched keypoints: PnP with covariance, essential and fundamental matrix.

A bearing is x y of a point at depth 1 in the optical frame (x right, y down, z forward), free of
distortion. Poses are `world_from_camera`; their errors are 6 numbers: metres of the camera's centre
and a rotation vector (radians), both about the world's axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.geometry import PoseWithCovariance, Transform, cross_matrices, retract

Floats = NDArray[np.float64]

MIN_POINTS = 6  # fewer always fit some pose
MIN_MATCHES = 8  # likewise, without depths
ROUNDS = 2  # of inlier selection and refinement
STEPS = 10  # of a refinement, at most
MIN_STEP = 0.03  # of it: standard deviations of the pose by its keypoints alone, at which it ends
CAUCHY_SCALE = 2.0  # standard deviations, scale of the robust loss
MAX_CONDITION = 1e12  # of the normal matrix: beyond, the points do not determine the pose
RANSAC_SAMPLES = 300
ESSENTIAL_SAMPLES = 300
FUNDAMENTAL_SAMPLES = 1000
CONFIDENCE = 0.999  # probability of an outlier-free sample, after which sampling ends


@dataclass(frozen=True, eq=False)
class Solution:
    """A robustly estimated pose. inliers: bool [M], the matches that agree with it."""

    world_from_camera: PoseWithCovariance
    inliers: NDArray[np.bool_]


def solve_pnp(
    points: Floats, bearings: Floats, tolerance: float, sigma: float, depth_sigma: float = 0.0
) -> Solution | None:
    """Perspective-n-point: the pose from which points [M, 3] of the world have these bearings.

    bearings: [M, 2]; tolerance: of an inlier's reprojection error; sigma: standard deviation of a
    bearing (both pixels over focal length); depth_sigma: of a point's distance from the origin of
    the world, over the distance. P3P in RANSAC, refined on the inliers. None where fewer than
    MIN_POINTS agree.
    """
    if len(points) < MIN_POINTS:
        return None
    focal = 1.0 / sigma  # so that one unit is one standard deviation
    matrix = np.diag([focal, focal, 1.0])
    try:
        success, turn, shift, chosen = cv2.solvePnPRansac(
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
    if not success or chosen is None or len(chosen) < MIN_POINTS:
        return None
    rotation = Rotation.from_rotvec(turn[:, 0]).inv()
    pose = Transform(-rotation.apply(shift[:, 0]), rotation.as_quat())
    return _refine(pose, _Points(points, bearings, sigma, depth_sigma), tolerance)


@dataclass(frozen=True, eq=False)
class _Points:
    """Points [M, 3], their bearings [M, 2], and the errors of both as of `solve_pnp`."""

    points: Floats
    bearings: Floats
    sigma: float
    depth_sigma: float

    def __getitem__(self, rows: NDArray[np.bool_]) -> _Points:
        return replace(self, points=self.points[rows], bearings=self.bearings[rows])

    def errors(self, pose: Transform) -> Floats:
        """Reprojection errors [M]; nan for points behind the camera."""
        residuals: Floats = np.linalg.norm(self._reprojection(pose)[0], axis=1)
        return residuals

    def equations(self, pose: Transform) -> tuple[Floats, Floats, float]:
        """Normal matrix [6, 6] and right side [6] of a step of the pose, and the variance of the
        residuals over the expected one.

        Along the line on which its depth moves a point, g by the standard deviation of the depth,
        a residual has the variance σ² + |g|² in place of σ². Cauchy weights of what is whitened so;
        points behind the camera have none.
        """
        residuals, jacobian, along = self._reprojection(pose)
        length = np.maximum(np.linalg.norm(along, axis=1), 1e-12)[:, None]
        share = (1.0 - self.sigma / np.hypot(self.sigma, length)) / length**2
        residuals = residuals - share * along * (along * residuals).sum(1)[:, None]
        jacobian = jacobian - (share * along)[:, :, None] * (along[:, None] @ jacobian)
        residuals, rows = residuals / self.sigma, (jacobian / self.sigma).reshape(-1, 6)
        squares = (residuals**2).sum(1)
        ahead = ~np.isnan(squares)
        weights = np.where(ahead, 1.0 / (1.0 + squares / CAUCHY_SCALE**2), 0.0)
        weighed = np.repeat(weights, 2)[:, None] * np.nan_to_num(rows)
        spread = float(weights @ np.nan_to_num(squares)) / max(2.0 * weights.sum(), 1e-12)
        right = weighed.T @ np.nan_to_num(residuals).ravel()
        return weighed.T @ np.nan_to_num(rows), right, spread

    def _reprojection(self, pose: Transform) -> tuple[Floats, Floats, Floats]:
        """Residuals [M, 2], observed minus projected, the derivatives of the projections by the
        pose's error [M, 2, 6], and by a standard deviation of the points' depths [M, 2]. nan for
        points behind the camera."""
        camera_from_world = pose.rotation.T
        offsets = self.points - pose.translation
        in_camera = offsets @ camera_from_world.T
        in_camera[in_camera[:, 2] <= 0] = np.nan
        projected, derivatives = project(in_camera)
        by_point = derivatives @ camera_from_world
        by_turn = by_point @ cross_matrices(offsets)
        along = self.depth_sigma * (by_point @ self.points[:, :, None])[:, :, 0]
        jacobian = np.concatenate([-by_point, by_turn], 2)
        return self.bearings - projected, jacobian, along


def _refine(pose: Transform, whole: _Points, tolerance: float) -> Solution | None:
    """Robust least squares on the inliers, selected again in each round; the covariance is the
    inverse normal matrix, scaled by the residuals."""
    for _ in range(ROUNDS):
        inliers = whole.errors(pose) <= tolerance  # false behind the camera
        if inliers.sum() < MIN_POINTS:
            return None
        refined = _least_squares(pose, whole[inliers])
        if refined is None:
            return None
        pose = refined
    normal, _, spread = whole[inliers].equations(pose)
    if np.linalg.cond(normal) > MAX_CONDITION:
        return None
    covariance = max(spread, 1.0) * np.asarray(np.linalg.inv(normal), np.float64)
    return Solution(PoseWithCovariance(pose, covariance), inliers)


def _least_squares(pose: Transform, points: _Points) -> Transform | None:
    """Minimum of the reprojection errors with Cauchy loss, by reweighted Gauss–Newton steps; None
    where the points do not determine the pose."""
    for _ in range(STEPS):
        normal, right, _ = points.equations(pose)
        try:
            step = np.asarray(np.linalg.solve(normal, right), np.float64)
        except np.linalg.LinAlgError:
            return None
        pose = retract(pose, step)
        if step @ normal @ step < MIN_STEP**2:
            break
    return pose


def project(points: Floats) -> tuple[Floats, Floats]:
    """Bearings [M, 2] of points [M, 3] in the optical frame, and their derivatives [M, 2, 3]."""
    x, y, z = points.T
    derivatives = np.zeros((len(points), 2, 3))
    derivatives[:, 0, 0] = derivatives[:, 1, 1] = 1 / z
    derivatives[:, 0, 2], derivatives[:, 1, 2] = -x / z**2, -y / z**2
    return np.stack([x / z, y / z], 1), derivatives


def essential_pose(
    bearings_here: Floats, bearings_there: Floats, tolerance: float
) -> tuple[Transform, NDArray[np.bool_]] | None:
    """Relative pose up to scale of two cameras with matched bearings [M, 2] each.

    Returns there_from_here with a translation of unit length, and the inliers, bool [M]. Essential
    matrix by MAGSAC++ (Barath et al., CVPR 2020). tolerance: off the epipolar line, in units of a
    bearing. None where fewer than MIN_MATCHES agree.
    """
    if len(bearings_here) < MIN_MATCHES:
        return None
    matrix, mask = cv2.findEssentialMat(
        bearings_here,
        bearings_there,
        np.eye(3),
        cv2.USAC_MAGSAC,
        CONFIDENCE,
        tolerance,
        ESSENTIAL_SAMPLES,
    )
    if matrix is None or matrix.shape != (3, 3):
        return None
    count, rotation, shift, mask = cv2.recoverPose(
        matrix, bearings_here, bearings_there, np.eye(3), mask=mask
    )
    if count < MIN_MATCHES:
        return None
    pose = Transform.from_rotation(np.asarray(shift[:, 0], float), np.asarray(rotation, float))
    return pose, mask[:, 0] > 0


def epipolar_distances(
    there_from_here: Transform, bearings_here: Floats, bearings_there: Floats
) -> Floats:
    """Sampson distances [M] of matched bearings [M, 2] from the epipolar geometry of a pose
    (Hartley and Zisserman, Multiple View Geometry, 2nd ed., Eq. 11.9), in units of a bearing."""
    shift = there_from_here.translation
    length = float(np.linalg.norm(shift))
    if length < 1e-9:  # rotation alone: no baseline
        turned = (
            np.column_stack([bearings_here, np.ones(len(bearings_here))])
            @ there_from_here.rotation.T
        )
        gaps: Floats = np.linalg.norm(turned[:, :2] / turned[:, 2:] - bearings_there, axis=1)
        return gaps
    return np.abs(epipolar_residuals(there_from_here, bearings_here, bearings_there))


def epipolar_residuals(
    there_from_here: Transform, bearings_here: Floats, bearings_there: Floats
) -> Floats:
    """`epipolar_distances` with their signs, of a pose with a translation."""
    direction = there_from_here.translation / np.linalg.norm(there_from_here.translation)
    matrix = cross_matrices(direction[None])[0] @ there_from_here.rotation
    a, b = (np.column_stack([x, np.ones(len(x))]) for x in (bearings_here, bearings_there))
    lines, back = a @ matrix.T, b @ matrix
    slopes = (lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1)
    residuals: Floats = (b * lines).sum(1) / np.sqrt(np.maximum(slopes, 1e-24))
    return residuals


def epipolar_inliers(
    pixels_here: NDArray[np.float32], pixels_there: NDArray[np.float32], tolerance: float
) -> NDArray[np.bool_]:
    """Matches of pixels [M, 2] of two images that fit one fundamental matrix (MAGSAC++), bool [M].

    For cameras without intrinsics. tolerance: pixels off the epipolar line. All false where fewer
    than MIN_MATCHES agree.
    """
    none = np.zeros(len(pixels_here), bool)
    if len(pixels_here) < MIN_MATCHES:
        return none
    try:
        _, mask = cv2.findFundamentalMat(
            pixels_here, pixels_there, cv2.USAC_MAGSAC, tolerance, CONFIDENCE, FUNDAMENTAL_SAMPLES
        )
    except cv2.error:  # coincident or collinear pixels
        return none
    inliers = none if mask is None else mask[:, 0] > 0
    return inliers if inliers.sum() >= MIN_MATCHES else none
