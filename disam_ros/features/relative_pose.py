# SPDX-License-Identifier: Apache-2.0
"""Where a camera stands, seen from where it stood then, by points seen both times.

Of some points the inverse depth then is known, more or less; of the others only that they are
somewhere ahead. Each says what it can: a point whose depth is unknown tells how far it appears off
its epipolar line, a well known one both coordinates. So no set of points with certain depths is
needed, and the covariance of the pose has the doubt about them in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.features.absolute_pose import LEAST_POINTS, PoseEstimate, pose_from_points
from disam_ros.geometry import Transform
from disam_ros.uncertainty import cross_matrices

UNSEEN = (0.05, 0.3)  # 1/m: mean and standard deviation of an inverse depth before any is seen
CLOSEST = 1.0  # 1/m, inverse depth of the closest point
GATES = (30.0, 10.0, 3.0)  # standard deviations within which a point counts, ever closer
ROUNDS = 10  # of refinement at each gate
SMALL_STEP = 1e-5  # metres and radians below which it ends
KNOWN = 3.0  # standard deviations that a point may be off for its doubtful depth, from 1 m aside
FAR = 0.01  # 1/m, inverse depth of the farthest point that a pose is begun from
ALIKE = 2.0  # points that lie together err together: so many count as one
BEHIND = 1e9  # squared standard deviations of a point that would lie behind the camera


@dataclass(frozen=True)
class Pairs:
    """Points seen in two images.

    then, now: view directions [M, 2]. inverse, precision: inverse depths then (1/m) and 1/σ², [M];
    precision 0 where none is known. noise: standard deviation of a direction, that of both images.
    """

    then: np.ndarray
    now: np.ndarray
    inverse: np.ndarray
    precision: np.ndarray
    noise: float


@dataclass(frozen=True)
class _End:
    """Where refinement ended, and how likely that is (logarithm)."""

    pose: Transform
    inliers: np.ndarray
    covariance: np.ndarray
    likelihood: float


def relative_pose(pairs: Pairs, prior: np.ndarray) -> PoseEstimate | None:
    """then_from_now, with the points that agree with it and its covariance about the axes of then.

    prior: covariance [6, 6] of the pose about the identity, before anything is seen. Begun from the
    identity and from the points whose depths are known: the likelier end is taken, and where the
    other lies elsewhere, the covariance reaches there as far as that one is likely. None where
    fewer than LEAST_POINTS agree.
    """
    starts = [(Transform.identity(), GATES)]
    well = pairs.precision * (KNOWN * pairs.noise) ** 2 >= 1.0
    depths = 1.0 / np.maximum(pairs.inverse[well], FAR)
    points = np.column_stack([pairs.then[well] * depths[:, None], depths])
    guess = pose_from_points(points, pairs.now[well], GATES[-1] * pairs.noise, pairs.noise)
    if guess is not None:
        starts.append((guess.world_from_camera, GATES[-1:]))
    information = np.linalg.inv(prior)
    ends = [_refined(pose, pairs, information, gates) for pose, gates in starts]
    found = [end for end in ends if end is not None]
    if not found:
        return None
    best, *others = sorted(found, key=lambda end: -end.likelihood)
    covariance = best.covariance
    for other in others:  # logarithms are compared: points are too sure of themselves
        share = max(other.likelihood, 0.0) / max(best.likelihood + other.likelihood, 1e-9)
        gap = _error(other.pose) - _error(best.pose)
        covariance = covariance + min(share, 0.5) * np.outer(gap, gap)
    return PoseEstimate(best.pose, best.inliers, covariance)


def _refined(
    pose: Transform, pairs: Pairs, information: np.ndarray, gates: tuple[float, ...]
) -> _End | None:
    """Gauss-Newton with Cauchy weights on the points within the gate."""
    mean, deviation = UNSEEN
    total = pairs.precision + deviation**-2
    expected = (pairs.precision * pairs.inverse + mean * deviation**-2) / total
    inverse = expected
    for gate in gates:
        for _ in range(ROUNDS):
            seen = _Seen(pose, inverse, pairs, expected, 1.0 / total)
            possible = (seen.inverse > -FAR) & (seen.inverse < CLOSEST)
            inliers = (seen.squares <= gate**2) & possible
            if inliers.sum() < LEAST_POINTS:
                return None
            weights = np.where(inliers, 1.0 / (1.0 + seen.squares / 4.0), 0.0)
            normal, right = seen.equations(weights)
            off = _error(pose)
            step = np.linalg.solve(normal + information, right - information @ off)
            turn = Rotation.from_rotvec(step[3:]) * Rotation.from_quat(pose.quaternion)
            pose = Transform(pose.translation + step[:3], turn.as_quat())
            inverse = np.clip(seen.inverse, 0.0, CLOSEST)
            if np.abs(step).max() < SMALL_STEP:
                break
    spread = ALIKE * max(1.0, float(weights @ seen.squares) / (2.0 * weights.sum()))
    covariance = np.linalg.inv(normal / spread + information)
    gains = np.where(inliers, (gates[-1] ** 2 - seen.squares - seen.log_volume) / 2.0, 0.0)
    likelihood = np.maximum(gains, 0.0).sum() - off @ information @ off / 2.0
    return _End(pose, inliers, covariance, float(likelihood))


def _error(pose: Transform) -> np.ndarray:
    """Metres and rotation vector [6] by which a pose differs from the identity."""
    return np.concatenate([pose.translation, Rotation.from_quat(pose.quaternion).as_rotvec()])


class _Seen:
    """Points at a pose, about the inverse depths ρ [M] found so far.

    With then_from_now = (R, c), the direction a is expected now at q = R'(a - ρ c). About ρ the
    direction u = q₁₂ / q₃ is linear: what is doubtful about ρ moves it along g = ∂u/∂ρ, so that its
    residual has the covariance σ² I + σ_ρ² g g', inverted by Sherman and Morrison's formula.

    squares: how far off the points appear, in standard deviations, squared, [M]. inverse: their
    likeliest inverse depths [M]. log_volume: of the doubt, over that of a known depth, [M].
    """

    def __init__(
        self,
        pose: Transform,
        inverse: np.ndarray,
        pairs: Pairs,
        expected: np.ndarray,
        variances: np.ndarray,
    ) -> None:
        rotation, variance = pose.rotation, pairs.noise**2
        rays = np.column_stack([pairs.then, np.ones(len(pairs.then))])
        offsets = rays - inverse[:, None] * pose.translation
        x, y, z = (offsets @ rotation).T
        ahead = z > 1e-3
        z = np.where(ahead, z, 1.0)
        project = np.zeros((len(z), 2, 3))
        project[:, 0, 0] = project[:, 1, 1] = 1 / z
        project[:, 0, 2], project[:, 1, 2] = -x / z**2, -y / z**2
        project = project @ rotation.T
        along = -project @ pose.translation
        residuals = pairs.now - np.stack([x / z, y / z], 1)
        self._residuals = residuals - along * (expected - inverse)[:, None]
        by_turn = project @ cross_matrices(offsets)
        self._jacobian = np.concatenate([-inverse[:, None, None] * project, by_turn], 2)
        doubt = variance + variances * (along**2).sum(1)
        share = (variances / doubt)[:, None, None]
        self._weights = (np.eye(2) - share * along[:, :, None] * along[:, None, :]) / variance
        weighed = np.einsum("mij,mj->mi", self._weights, self._residuals)
        self.squares = np.where(ahead, (self._residuals * weighed).sum(1), BEHIND)
        self.inverse = expected + variances * (along * weighed).sum(1)
        self.log_volume = np.log(doubt / variance)

    def equations(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal matrix [6, 6] and right side [6] of a step of the pose. weights: [M]."""
        whole = np.einsum("m,mia,mij->maj", weights, self._jacobian, self._weights)
        normal = np.einsum("maj,mjb->ab", whole, self._jacobian)
        return normal, np.einsum("maj,mj->a", whole, self._residuals)
