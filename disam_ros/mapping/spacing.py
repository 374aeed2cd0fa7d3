# SPDX-License-Identifier: Apache-2.0
"""Local spacing of a map: displacements between neighbouring images along their drive.

A map may be dense in one part and sparse in another, or hold several drives. A query lies anywhere
between two map images: up to half the local spacing off along the track, with a variance of
spacing² / 12 if all positions are equally likely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import offsets

BREAK, BREAK_M = 3.0, 10.0  # a step so many times an image's other one, and so many metres long,
# leads to another drive
MAX_STEP = 25.0  # farther apart, neighbouring images share no view; longer steps are shortened [m]


def neighbour_steps(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacements to the next image of the drive and from the previous one.

    poses: of one camera's images in map order, [N, 7] tx ty tz qx qy qz qw. Returns [N, 2, 6] x y z
    rotX rotY rotZ [m, rad] about the map's axes. At the ends of a drive both are the one that is
    known; 0 for a single image.
    """
    rows, last = np.arange(len(poses)), len(poses) - 1
    steps, none = _displacements(poses[:-1], poses[1:]), np.zeros((1, 6))
    ahead, behind = np.concatenate([steps, none]), np.concatenate([none, steps])
    forth, back = (np.linalg.norm(steps[:, :3], axis=1) for steps in (ahead, behind))
    leaves = (rows == last) | (forth > np.maximum(BREAK * back, BREAK_M)) & (rows > 0)
    joins = (rows == 0) | (back > np.maximum(BREAK * forth, BREAK_M)) & (rows < last)
    both = np.stack([np.where(leaves[:, None], behind, ahead)] * 2, axis=1)
    both[:, 1] = np.where(joins[:, None], ahead, behind)
    return both


def next_rows(poses: NDArray[np.float64]) -> NDArray[np.int64]:
    """The other end of the stretch of road that begins at each image: int64 [N].

    It ends at the next image of the drive; −1 where there is none within MAX_STEP, as at the end
    of a drive. poses: as of `neighbour_steps`.
    """
    lengths = np.linalg.norm(np.diff(poses[:, :3], axis=0), axis=1)
    around = np.concatenate([[np.inf], lengths, [np.inf]])  # before each image, and after the last
    shorter = np.minimum(
        np.where(np.isinf(around[:-2]), lengths, around[:-2]),
        np.where(np.isinf(around[2:]), lengths, around[2:]),
    )
    joined = (lengths <= MAX_STEP) & (lengths <= np.maximum(BREAK * shorter, BREAK_M))
    rows: NDArray[np.int64] = np.append(np.where(joined, np.arange(1, len(poses)), -1), -1)
    return rows


def _displacements(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacements [n, 6] from poses [n, 7] to others, at most MAX_STEP long."""
    steps = offsets(after, before)
    lengths = np.linalg.norm(steps[:, :3], axis=1, keepdims=True)
    shortened: NDArray[np.float64] = steps * np.minimum(1.0, MAX_STEP / np.maximum(lengths, 1e-12))
    return shortened


def spacings(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square length of each image's steps: [N, 2, 6] → [N] [m]."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(steps[..., :3]).sum((1, 2)) / 2)
    return lengths


def longest(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length of each image's longer step: [N, 2, 6] → [N] [m]."""
    lengths: NDArray[np.float64] = np.linalg.norm(steps[..., :3], axis=2).max(1)
    return lengths
