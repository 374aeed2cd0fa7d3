# SPDX-License-Identifier: Apache-2.0
"""The newest poses of the vehicle, and the images that wait for the pose after them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np

from disam_ros.geometry import Transform, interpolate

T = TypeVar("T")

KEPT_POSES = 500


class PoseTrack(Generic[T]):
    """Matches images with interpolated poses.

    An image waits until a pose at or after its stamp is there. max_gap_ns: longest time between
    two poses over which is interpolated. max_waiting: images that may wait; the oldest go first.
    """

    def __init__(self, max_gap_ns: int, max_waiting: int) -> None:
        self._max_gap_ns = max_gap_ns
        self._stamps: deque[int] = deque(maxlen=KEPT_POSES)
        self._poses: deque[Transform] = deque(maxlen=KEPT_POSES)
        self._waiting: deque[tuple[int, T]] = deque(maxlen=max_waiting)

    def add_pose(self, stamp_ns: int, map_from_base: Transform) -> bool:
        """Add a pose; False, and it is left out, where it is not newer than the last."""
        if self._stamps and stamp_ns <= self._stamps[-1]:
            return False
        self._stamps.append(stamp_ns)
        self._poses.append(map_from_base)
        return True

    def add_image(self, stamp_ns: int, image: T) -> bool:
        """Let an image wait; True if an older one was dropped for it."""
        full = len(self._waiting) == self._waiting.maxlen
        self._waiting.append((stamp_ns, image))
        return full

    def matched(self) -> Iterator[tuple[int, T, Transform | None]]:
        """(stamp, image, map_from_base) of the images whose time has come; None: no pose near."""
        while self._waiting and self._stamps and self._waiting[0][0] <= self._stamps[-1]:
            stamp_ns, image = self._waiting.popleft()
            stamps = np.array(self._stamps, dtype=np.int64)
            yield (
                stamp_ns,
                image,
                interpolate(stamps, list(self._poses), stamp_ns, self._max_gap_ns),
            )
