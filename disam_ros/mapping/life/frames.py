# SPDX-License-Identifier: Apache-2.0
"""Frames of two maps: do they agree, and if not, what moves one into the other?

Each pair of images of one place (matches.py) says where the other map's frame lies, up to the
distance of the two cameras and the errors of the poses. A hypothesis from each pair, or from two
where the scale is unknown, is voted for by all (RANSAC), then fitted to those that agree: the
similarity of Umeyama (1991) of their positions and of points LEVER ahead, left of and above them,
so that headings fix the rotation of a straight drive too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.errors import MapError
from disam_ros.geometry import Transform
from disam_ros.mapping.life.matches import match_maps
from disam_ros.mapping.place_map import PlaceMap

LEVER = 10.0  # [m]: an error of 1 m in position weighs as one of 6° in heading
NEAR_M, NEAR_DEG = 3.0, 15.0  # residuals of a match that agrees, at least
NEAR_STEPS = 1.5  # and in spacings of the sparser map
LEAST, LEAST_SHARE = 8, 0.25  # matches that agree, and their share of all, to be believed
APART_M, APART_DEG = 1.0, 3.0  # by which one frame may be off the other, and they still agree
ROUNDS = 5  # of fitting
SCALES = 0.05, 20.0  # of a map over the other's


@dataclass(frozen=True)
class Alignment:
    """a_from_b, after b's positions are scaled; of `matches` pairs `agreeing` fit.

    residual_m, residual_deg: their median residuals. offset_m, offset_deg: how far a_from_b moves
    and turns the agreeing images of b, in the median.
    """

    a_from_b: Transform
    scale: float
    matches: int
    agreeing: int
    residual_m: float
    residual_deg: float
    offset_m: float
    offset_deg: float

    @property
    def believable(self) -> bool:
        return self.agreeing >= LEAST and self.agreeing >= LEAST_SHARE * self.matches

    @property
    def same_frame(self) -> bool:
        """Whether the frames agree as they are, up to the residuals."""
        doubt = self.residual_m / np.sqrt(max(self.agreeing, 1))
        near = self.offset_m <= APART_M + 3.0 * doubt and self.offset_deg <= APART_DEG
        return bool(near and abs(self.scale - 1.0) <= 0.02)

    def __str__(self) -> str:
        return (
            f"{self.agreeing} of {self.matches} matches agree, median residuals "
            f"{self.residual_m:.2f} m and {self.residual_deg:.1f}°; the frame is off by "
            f"{self.offset_m:.2f} m and {self.offset_deg:.1f}°"
            + (f", scale {self.scale:.4f}" if self.scale != 1.0 else "")
        )


def align_maps(
    a: PlaceMap, b: PlaceMap, shape: tuple[int, int, int], scaled: bool = False
) -> Alignment:
    """Alignment of b's frame with a's by images of the same places.

    shape: (C, h, w) of fine descriptors. scaled: b's positions are not in metres. Raises MapError
    where less than two places are in both maps.
    """
    matches = match_maps(a, b, shape)
    if len(matches) < 2:
        raise MapError(
            f"{b.directory} and {a.directory} have {len(matches)} images of the same places in "
            f"common, too few to compare their frames: are they of one place and camera?"
        )
    near = max(NEAR_M, NEAR_STEPS * max(a.spacing(), 0.0 if scaled else b.spacing()))
    return estimate(a.poses[matches.rows_a], b.poses[matches.rows_b], scaled, near)


def estimate(
    a: NDArray[np.float64], b: NDArray[np.float64], scaled: bool = False, near: float = NEAR_M
) -> Alignment:
    """Robust similarity between matched poses [n, 7] (tx ty tz qx qy qz qw) of two frames.

    scaled: the scale is estimated; else it is 1. near: residual of a match that agrees [m].
    """
    turns = Rotation.from_quat(a[:, 3:]) * Rotation.from_quat(b[:, 3:]).inv()
    best: Similarity = (turns[0], 1.0, a[0, :3])
    agrees: NDArray[np.bool_] = np.zeros(len(a), np.bool_)
    for index in range(len(a)):
        partners = _partners(b, index) if scaled else (index,)
        for other in partners:
            scale = _scale(a, b, index, other) if scaled else 1.0
            if not SCALES[0] <= scale <= SCALES[1]:
                continue
            shift = a[index, :3] - turns[index].apply(scale * b[index, :3])
            guess = turns[index], scale, shift
            fits = _agreeing(a, b, turns, guess, near)
            if fits.sum() > agrees.sum():
                best, agrees = guess, fits
    for _ in range(ROUNDS):
        if agrees.sum() < 2:
            break
        best = _fit(a[agrees], b[agrees], scaled)
        agrees = _agreeing(a, b, turns, best, near)
    metres, degrees = _residuals(a, b, turns, best)
    chosen = agrees if agrees.any() else np.ones(len(a), bool)
    turn, scale, shift = best
    moved = turn.apply(scale * b[:, :3]) + shift
    return Alignment(
        a_from_b=Transform(shift, turn.as_quat()),
        scale=float(scale),
        matches=len(a),
        agreeing=int(agrees.sum()),
        residual_m=float(np.median(metres[chosen])),
        residual_deg=float(np.median(degrees[chosen])),
        offset_m=float(np.median(np.linalg.norm(moved - b[:, :3], axis=1)[chosen])),
        offset_deg=float(np.degrees(turn.magnitude())),
    )


Similarity = tuple[Rotation, float, NDArray[np.float64]]  # x → scale · R x + shift


def _partners(b: NDArray[np.float64], index: int) -> list[int]:
    """Matches far from one in b, which fix the scale with it."""
    gaps = np.linalg.norm(b[:, :3] - b[index, :3], axis=1)
    return [int(k) for k in np.argsort(-gaps)[:10]]


def _scale(a: NDArray[np.float64], b: NDArray[np.float64], i: int, j: int) -> float:
    gap = float(np.linalg.norm(b[i, :3] - b[j, :3]))
    return float(np.linalg.norm(a[i, :3] - a[j, :3])) / gap if gap > 1e-9 else 0.0


def _residuals(
    a: NDArray[np.float64], b: NDArray[np.float64], turns: Rotation, similarity: Similarity
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residuals of positions [m] and orientations [deg], [n] each."""
    turn, scale, shift = similarity
    metres = np.linalg.norm(a[:, :3] - turn.apply(scale * b[:, :3]) - shift, axis=1)
    return metres, np.degrees((turns * turn.inv()).magnitude())


def _agreeing(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    turns: Rotation,
    similarity: Similarity,
    near: float,
) -> NDArray[np.bool_]:
    metres, degrees = _residuals(a, b, turns, similarity)
    agrees: NDArray[np.bool_] = (metres <= near) & (degrees <= NEAR_DEG)
    return agrees


def _fit(a: NDArray[np.float64], b: NDArray[np.float64], scaled: bool) -> Similarity:
    """Least squares: Umeyama's similarity of positions and points ahead, left and above."""
    centre_a, centre_b = a[:, :3].mean(0), b[:, :3].mean(0)
    x, y = b[:, :3] - centre_b, a[:, :3] - centre_a
    axes_a, axes_b = (Rotation.from_quat(p[:, 3:]).as_matrix() for p in (a, b))
    spread = float(np.square(x).sum())
    scale = float(np.sqrt(np.square(y).sum() / spread)) if scaled and spread > 1e-9 else 1.0
    covariance = scale * y.T @ x + LEVER**2 * np.einsum("nik,njk->ij", axes_a, axes_b)
    turn = Rotation.from_matrix(_nearest_rotation(covariance))
    if scaled and spread > 1e-9:
        scale = float((y * turn.apply(x)).sum() / spread)
    return turn, scale, centre_a - turn.apply(scale * centre_b)


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation R that maximizes tr(Rᵀ M) (Kabsch)."""
    u, _, v = np.linalg.svd(matrix)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    rotation: NDArray[np.float64] = (u * signs) @ v
    return rotation
