# SPDX-License-Identifier: Apache-2.0
"""Relative pose of two views from matched keypoints with uncertain inverse depth.

Robust Gauss–Newton on the reprojection error with the inverse depths marginalized: a keypoint of
unknown depth constrains the distance from its epipolar line, one of known depth both coordinates.
No set of keypoints with certain depths is needed, and the pose's covariance contains their
uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.features.absolute_pose import MIN_POINTS, Floats, Solution, project, solve_pnp
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.triangulation import PIXEL_SIGMA
from disam_ros.geometry import PoseWithCovariance, Transform, cross_matrices, retract

PRIOR_INVERSE_DEPTH = (0.05, 0.3)  # 1/m: mean and standard deviation without a measurement
MAX_INVERSE_DEPTH = 1.0  # 1/m, of the closest point
MIN_INVERSE_DEPTH = 0.01  # 1/m, of the farthest point used for PnP
GATES = (30.0, 10.0, 3.0)  # standard deviations within which a keypoint is an inlier, in turn
ROUNDS = 10  # Gauss–Newton steps at each gate
MIN_STEP = 1e-5  # metres and radians below which they end
MAX_DEPTH_PARALLAX_SIGMA = 3.0  # PnP: most that a depth's error may move a keypoint over 1 m
COVARIANCE_INFLATION = 2.0  # neighbouring keypoints have correlated errors
CAUCHY_SCALE = 2.0  # standard deviations
BEHIND = 1e9  # squared standard deviations of a point behind the camera


def relative_pose(then: Keypoints, now: Keypoints, prior: Floats) -> Solution | None:
    """then_from_now of matched keypoints (row by row), covariance about the axes of `then`.

    Inverse depths of `then` are used, with finite precisions. prior: covariance [6, 6] of the pose
    about the identity. Two starts, the identity and PnP on the keypoints of known depth: the
    likelier solution is returned, its covariance widened towards the other as far as that is
    likely. None where fewer than MIN_POINTS agree.
    """
    problem = _Problem.of(then, now, prior)
    minima = [_refine(Transform.identity(), problem, GATES)]
    guess = _pnp(then, now, problem.sigma)
    if guess is not None:
        minima.append(_refine(guess, problem, GATES[-1:]))
    solutions = [solution for solution in minima if solution is not None]
    if not solutions:
        return None
    (best, likelihood), *others = sorted(solutions, key=lambda solution: -solution[1])
    pose, covariance = best.world_from_camera.pose, best.world_from_camera.covariance
    for other, less in others:  # ratio of logarithms: keypoints are overconfident
        share = max(less, 0.0) / max(likelihood + less, 1e-9)
        gap = _error(other.world_from_camera.pose) - _error(pose)
        covariance = covariance + min(share, 0.5) * np.outer(gap, gap)
    return Solution(PoseWithCovariance(pose, covariance), best.inliers)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Rays [M, 3] then, bearings [M, 2] now with their standard deviation, inverse depths [M] with
    their variances, and the information matrix [6, 6] of the pose about the identity."""

    rays: Floats
    bearings: Floats
    sigma: float
    inverse_depths: Floats
    variances: Floats
    information: Floats

    @classmethod
    def of(cls, then: Keypoints, now: Keypoints, prior: Floats) -> _Problem:
        mean, deviation = PRIOR_INVERSE_DEPTH
        total = then.precisions + deviation**-2
        return cls(
            rays=np.column_stack([then.bearings, np.ones(len(then))]),
            bearings=now.bearings,
            sigma=_sigma(then, now),
            inverse_depths=(then.precisions * then.inverse_depths + mean * deviation**-2) / total,
            variances=1.0 / total,
            information=np.asarray(np.linalg.inv(prior), np.float64),
        )


def _sigma(then: Keypoints, now: Keypoints) -> float:
    """Standard deviation of the difference of two bearings."""
    return PIXEL_SIGMA * float(np.hypot(then.pixel_angle, now.pixel_angle))


def _pnp(then: Keypoints, now: Keypoints, sigma: float) -> Transform | None:
    """PnP on the keypoints whose depth is known well."""
    precise = then.precisions * (MAX_DEPTH_PARALLAX_SIGMA * sigma) ** 2 >= 1.0
    depths = 1.0 / np.maximum(then.inverse_depths[precise], MIN_INVERSE_DEPTH)
    points = np.column_stack([then[precise].bearings * depths[:, None], depths])
    solution = solve_pnp(points, now[precise].bearings, GATES[-1] * sigma, sigma)
    return None if solution is None else solution.world_from_camera.pose


def _refine(
    pose: Transform, problem: _Problem, gates: tuple[float, ...]
) -> tuple[Solution, float] | None:
    """Gauss–Newton with Cauchy weights; inliers are selected in every step, by ever closer gates.

    Returns the log likelihood, too. None where fewer than MIN_POINTS are inliers.
    """
    inverse_depths, information = problem.inverse_depths, problem.information
    for gate in gates:
        for _ in range(ROUNDS):
            linear = _Linearization(pose, inverse_depths, problem)
            inliers = (linear.squares <= gate**2) & linear.possible
            if inliers.sum() < MIN_POINTS:
                return None
            weights = np.where(inliers, 1.0 / (1.0 + linear.squares / CAUCHY_SCALE**2), 0.0)
            normal, right = linear.equations(weights)
            error = _error(pose)
            step = np.linalg.solve(normal + information, right - information @ error)
            pose = retract(pose, np.asarray(step, np.float64))
            inverse_depths = np.clip(linear.inverse_depths, 0.0, MAX_INVERSE_DEPTH)
            if np.abs(step).max() < MIN_STEP:
                break
    spread = COVARIANCE_INFLATION * max(
        1.0, float(weights @ linear.squares) / (2.0 * weights.sum())
    )
    covariance = np.linalg.inv(normal / spread + information)
    gains = np.where(inliers, (gates[-1] ** 2 - linear.squares - linear.log_volume) / 2.0, 0.0)
    likelihood = np.maximum(gains, 0.0).sum() - error @ information @ error / 2.0
    return Solution(PoseWithCovariance(pose, covariance), inliers), float(likelihood)


def _error(pose: Transform) -> Floats:
    """Metres and rotation vector [6] from the identity to a pose."""
    return np.concatenate([pose.translation, Rotation.from_quat(pose.quaternion).as_rotvec()])


class _Linearization:
    """The reprojection errors about a pose and inverse depths ρ [M], ρ marginalized.

    With then_from_now = (R, c), a ray a is projected to u = q₁₂ / q₃ with q = R'(a − ρ c). About ρ,
    u is linear in it: its variance moves u along g = ∂u/∂ρ, so that the residual has the covariance
    σ² I + σ_ρ² g g', inverted by the Sherman–Morrison formula.

    squares: squared Mahalanobis distances of the residuals [M]. inverse_depths: the likeliest [M];
    possible: where they are. log_volume: log determinants of the covariances over σ⁴ [M].
    """

    def __init__(self, pose: Transform, inverse_depths: Floats, problem: _Problem) -> None:
        variance = problem.sigma**2
        offsets = problem.rays - inverse_depths[:, None] * pose.translation
        points = offsets @ pose.rotation
        ahead = points[:, 2] > 1e-3
        points[~ahead, 2] = 1.0
        projected, derivatives = project(points)
        derivatives = derivatives @ pose.rotation.T
        along = -derivatives @ pose.translation  # g
        self._residuals = (
            problem.bearings
            - projected
            - along * (problem.inverse_depths - inverse_depths)[:, None]
        )
        by_shift = -inverse_depths[:, None, None] * derivatives
        self._jacobian = np.concatenate([by_shift, derivatives @ cross_matrices(offsets)], 2)
        total = variance + problem.variances * (along**2).sum(1)
        share = (problem.variances / total)[:, None, None]
        self._weights = (np.eye(2) - share * along[:, :, None] * along[:, None, :]) / variance
        weighed = np.einsum("mij,mj->mi", self._weights, self._residuals)
        self.squares = np.where(ahead, (self._residuals * weighed).sum(1), BEHIND)
        update = problem.variances * (along * weighed).sum(1)
        self.inverse_depths = problem.inverse_depths + update
        self.possible: NDArray[np.bool_] = (self.inverse_depths > -MIN_INVERSE_DEPTH) & (
            self.inverse_depths < MAX_INVERSE_DEPTH
        )
        self.log_volume = np.log(total / variance)

    def equations(self, weights: Floats) -> tuple[Floats, Floats]:
        """Normal matrix [6, 6] and right side [6] of a step of the pose. weights: [M]."""
        whole = np.einsum("m,mia,mij->maj", weights, self._jacobian, self._weights)
        normal = np.einsum("maj,mjb->ab", whole, self._jacobian)
        return normal, np.einsum("maj,mj->a", whole, self._residuals)
