# SPDX-License-Identifier: Apache-2.0
"""What the arrays of a map must hold, whatever their checksums say: checked when a map opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import MapError
from disam_ros.geometry import FARTHEST, UNIT

POSE = 7  # numbers of a pose: tx ty tz qx qy qz qw
LARGEST = 65504.0  # number of descriptors before they are compressed, in half precision


def check_poses(path: Path, poses: NDArray[np.float64]) -> None:
    """Raise MapError, naming the first row at fault, unless poses [N, 7] are poses on Earth."""
    if poses.shape[1] != POSE:
        raise MapError(f"{path} is damaged: expected {POSE} numbers a pose, got {poses.shape[1]}")
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.square(poses[:, 3:]).sum(1))
    near = np.abs(poses[:, :3]).max(1, initial=0.0) <= FARTHEST  # false with nan
    sound = near & (np.abs(norms - 1.0) <= UNIT)
    if not sound.all():
        row = int(np.argmin(sound))
        raise MapError(
            f"{path} is damaged: expected finite metres up to {FARTHEST:g} and a unit quaternion, "
            f"got {poses[row].tolist()} in row {row}; build the map again"
        )


def check_codes(
    folder: Path,
    width: int,
    steps: NDArray[np.float32],
    directions: NDArray[np.float16] | None,
) -> None:
    """Raise MapError unless quantization steps [d], and directions [d, D] where a map has its own,
    are those of coarse descriptors of `width` codes."""
    if steps.shape != (width,) or not ((steps > 0) & (steps <= LARGEST)).all():
        raise MapError(
            f"{folder / 'steps.npy'} is damaged: expected {width} steps above 0, one for each code "
            f"of coarse.npy, got {len(steps)}; build the map again"
        )
    if directions is None:
        return
    whole = directions.shape == (0, width)  # descriptors are not projected
    if not (whole or len(directions) == width) or not (np.abs(directions) <= LARGEST).all():
        raise MapError(
            f"{folder / 'directions.npy'} is damaged: expected {width} directions of finite "
            f"numbers, got {len(directions)}; build the map again"
        )


def check_fine(folder: Path, width: int, mean: NDArray[np.float32]) -> None:
    """Raise MapError unless the mean of fine descriptors [C] is one of `width` codes each."""
    if not len(mean) or width % len(mean) or not (np.abs(mean) <= LARGEST).all():
        raise MapError(
            f"{folder / 'mean.npy'} is damaged: expected a finite mean of each channel of the "
            f"{width} codes in fine.npy, got {len(mean)} numbers; build the map again"
        )
