# SPDX-License-Identifier: Apache-2.0
"""The images that are kept of a drive, in bounded memory, to be met again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.errors import LoopClosureError
from disam_ros.geometry import Transform
from disam_ros.mapping.compression import to_int8
from disam_ros.slam.keypoints import DrivePoints


@dataclass(frozen=True)
class Keyframe:
    """An image of the drive. travelled: metres since its start. points: what verifies it."""

    stamp_ns: int
    drive_from_base: Transform
    travelled: float
    points: DrivePoints | None = None


class DriveKeyframes:
    """Keyframes in the order of the drive, coarse descriptors as float32, fine ones as int8.

    capacity: how many at most. Memory is taken as they come.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: list[Keyframe] = []
        self._coarse = self._fine = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, keyframe: Keyframe, coarse: np.ndarray, fine: np.ndarray) -> bool:
        """Keep one more. coarse: [d], fine: [D]. Whether every other one had to go for it.

        Raises LoopClosureError for descriptors of another length than the first ones'.
        """
        if not self._kept:
            self._coarse = np.empty((self._capacity, len(coarse)), np.float32)
            self._fine = np.empty((self._capacity, len(fine)), np.int8)
        expected, given = (self._coarse.shape[1], self._fine.shape[1]), (len(coarse), len(fine))
        if given != expected:
            raise LoopClosureError(
                f"descriptors of one drive expect {expected} numbers, got {given}; start a new "
                f"drive where model or map is another"
            )
        thinned = len(self) == self._capacity
        if thinned:
            self._thin()
        row = len(self)
        self._coarse[row], self._fine[row] = coarse, to_int8(fine)
        self._kept.append(keyframe)
        return thinned

    def best(
        self, coarse: np.ndarray, fine: np.ndarray, latest: Keyframe, count: int
    ) -> tuple[Keyframe, float] | None:
        """Of those not after `latest` in time or on the path, the one most like it.

        coarse [d], fine [D]: of unit length. count: how many, best by coarse similarity, are
        compared finely. Gives its fine similarity, too.
        """
        among = sum(
            k.stamp_ns <= latest.stamp_ns and k.travelled <= latest.travelled for k in self._kept
        )
        if not among:
            return None
        rows = np.argsort(-(self._coarse[:among] @ coarse))[:count]
        references = self._fine[rows].astype(np.float32)
        scores = references @ fine / np.linalg.norm(references, axis=1)
        first = int(scores.argmax())
        return self._kept[rows[first]], float(scores[first].clip(-1.0, 1.0))

    def _thin(self) -> None:
        self._kept = self._kept[::2]
        for array in (self._coarse, self._fine):
            array[: len(self)] = array[::2].copy()


def unit(descriptor: np.ndarray) -> np.ndarray:
    """A descriptor as float32 [n] of unit length. Raises LoopClosureError where it has none."""
    descriptor = np.asarray(descriptor, np.float32).ravel()
    length = float(np.linalg.norm(descriptor))
    if not np.isfinite(length) or not length:
        raise LoopClosureError(
            f"a descriptor expects finite numbers, not all 0; its length is {length}: is the "
            "image one?"
        )
    return descriptor / length
