# SPDX-License-Identifier: Apache-2.0
"""Keyframe database of a drive, descriptors and keypoints in bounded memory; the distance driven:
by odometry, and where there is none by the change of the view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import LoopClosureError
from disam_ros.features.keypoints import Keypoints
from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.mapping.compression import to_int8
from disam_ros.models.similarity import Shifts, shifted_similarities


@dataclass(frozen=True, eq=False)
class Keyframe:
    """An image of the drive."""

    stamp_ns: int
    odometry: Reading | None  # at its stamp; None: unknown
    travelled: float  # since the start of the drive [m]
    keypoints: Keypoints | None = None  # for verification


class KeyframeDatabase:
    """Keyframes in the order of the drive, coarse descriptors as float32, fine ones as int8.

    capacity: how many at most. Memory is used as they are added. Fine similarities tolerate shifts
    as those with map images do (models/similarity.py).
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keyframes: list[Keyframe] = []
        self._coarse: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._fine: NDArray[np.int8] = np.empty((0, 0), np.int8)

    def __len__(self) -> int:
        return len(self._keyframes)

    def stamps_ns(self) -> list[int]:
        """Stamps of the keyframes."""
        return [keyframe.stamp_ns for keyframe in self._keyframes]

    def add(
        self, keyframe: Keyframe, coarse: NDArray[np.float32], fine: NDArray[np.float32]
    ) -> bool:
        """Add one with its descriptors [d] and [C, h, w]; returns whether every other keyframe was
        removed to make room.

        Raises LoopClosureError for descriptors of another shape than the first ones'.
        """
        if not self._keyframes:
            self._coarse = np.empty((self._capacity, *coarse.shape), np.float32)
            self._fine = np.empty((self._capacity, *fine.shape), np.int8)
        expected = self._coarse.shape[1:], self._fine.shape[1:]
        if (coarse.shape, fine.shape) != expected:
            raise LoopClosureError(
                f"descriptors of one drive expect the shapes {expected}, got "
                f"{(coarse.shape, fine.shape)}; start a new drive where model or map is another"
            )
        thinned = len(self) == self._capacity
        if thinned:
            self._thin()
        row = len(self)
        self._coarse[row], self._fine[row] = coarse, _codes(fine)
        self._keyframes.append(keyframe)
        return thinned

    def best_match(
        self,
        coarse: NDArray[np.float32],
        fine: NDArray[np.float32],
        latest: Keyframe,
        candidates: int,
    ) -> tuple[Keyframe, float] | None:
        """The most similar keyframe and its fine similarity.

        Only keyframes not after `latest`, in time and along the path, count. coarse: [d], fine:
        [C, h, w]. candidates: how many, best by coarse similarity, are re-ranked finely.
        """
        among = sum(
            k.stamp_ns <= latest.stamp_ns and k.travelled <= latest.travelled
            for k in self._keyframes
        )
        if not among:
            return None
        rows = np.argsort(-(self._coarse[:among] @ coarse))[:candidates]
        scores = fine_similarities(fine, self._fine[rows])
        first = int(scores.argmax())
        return self._keyframes[rows[first]], float(scores[first].clip(-1.0, 1.0))

    def _thin(self) -> None:
        self._keyframes = self._keyframes[::2]
        self._coarse[: len(self)] = self._coarse[::2].copy()
        self._fine[: len(self)] = self._fine[::2].copy()


class DrivenPath:
    """Metres travelled since the start of a drive.

    changed: fine similarity below which the view has changed; step: metres that this counts as. A
    vehicle at rest sees no change.
    """

    def __init__(self, step: float, changed: float) -> None:
        self.travelled = 0.0
        self._step, self._changed = step, changed
        self._odometry: Reading | None = None  # the last
        self._there = 0.0  # metres travelled then
        self._view: NDArray[np.float32] | None = None  # since odometry is missing, the last changed

    def by_odometry(self, odometry: Reading) -> None:
        """Adds odometry at an image; where it started over, the vehicle counts as at rest."""
        moved = motion(self._odometry, odometry)
        if moved is not None:  # metres counted by the view meanwhile are no further ones
            metres = float(np.linalg.norm(moved.translation))
            self.travelled = max(self.travelled, self._there + metres)
        self._odometry, self._there, self._view = odometry, self.travelled, None

    def by_view(self, fine: NDArray[np.float32]) -> None:
        """Adds an image without odometry by its fine descriptor [C, h, w]."""
        if self._view is None:
            self._view = fine
        elif float(fine_similarities(fine, self._view[None])[0]) < self._changed:
            self.travelled, self._view = self.travelled + self._step, fine


def unit(descriptor: NDArray[np.floating]) -> NDArray[np.float32]:
    """A descriptor as float32 of unit length. Raises LoopClosureError where it has none."""
    vector = np.asarray(descriptor, np.float32)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or not length:
        raise LoopClosureError(
            f"a descriptor expects finite numbers, not all 0; its length is {length}: is the "
            "image one?"
        )
    return vector / np.float32(length)


def fine_similarities(
    fine: NDArray[np.float32], references: NDArray[np.float32] | NDArray[np.int8]
) -> NDArray[np.float32]:
    """Similarities of features [C, h, w] to others [N, C, h, w], the best over shifts: [N]."""
    others, shifts = np.asarray(references, np.float32), Shifts.of_grid(*fine.shape[1:])
    best: NDArray[np.float32] = shifted_similarities(fine[None], others, shifts)[0].max(1)
    return best


def _codes(fine: NDArray[np.float32]) -> NDArray[np.int8]:
    """int8 codes [C, h, w] of features [C, h, w] up to their norm."""
    return to_int8(fine.ravel()).reshape(fine.shape)
