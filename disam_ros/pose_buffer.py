# SPDX-License-Identifier: Apache-2.0
"""Stamped poses over time, interpolated."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import Transform, interpolate

NANOSECONDS = 1_000_000_000  # per second: stamps are integer nanoseconds


class Track(NamedTuple):
    """Poses `a_from_b` of a body over time."""

    stamps: NDArray[np.int64]  # [N] [ns]
    poses: Sequence[Transform]  # [N]


class StampedPose(NamedTuple):
    """A pose of a track."""

    stamp_ns: int
    pose: Transform
    travelled: float  # length of the track up to it [m]


class PoseBuffer:
    """Poses `a_from_b` over time, interpolated. May be used from any thread.

    max_gap_ns: longest time between two poses across which is interpolated [ns]. kept: number of
    the newest poses that are remembered; None: all.
    """

    def __init__(self, max_gap_ns: int, kept: int | None = None) -> None:
        self.max_gap_ns, self._kept = max_gap_ns, kept
        self._lock = threading.Lock()
        self._track: list[StampedPose] = []

    @classmethod
    def of(
        cls,
        stamps_ns: Sequence[int] | NDArray[np.int64],
        poses: Sequence[Transform],
        max_gap_ns: int,
    ) -> PoseBuffer:
        """A whole track, its stamps [N] in any order; of equal stamps the first pose is kept."""
        buffer = cls(max_gap_ns)
        for stamp_ns, pose in zip(*sort_by_stamp(stamps_ns, poses), strict=True):
            buffer.add(int(stamp_ns), pose)
        return buffer

    def __len__(self) -> int:
        return len(self._track)

    @property
    def track(self) -> Track:
        """All poses, their stamps strictly increasing."""
        with self._lock:
            stamps = np.array([item.stamp_ns for item in self._track], dtype=np.int64)
            return Track(stamps, [item.pose for item in self._track])

    @property
    def newest(self) -> StampedPose | None:
        """The last pose; None before the first."""
        with self._lock:
            return self._track[-1] if self._track else None

    def drop_newest(self) -> StampedPose | None:
        """Forget the last pose, and return the one before it; None without any."""
        with self._lock:
            del self._track[-1:]
            return self._track[-1] if self._track else None

    def add(self, stamp_ns: int, pose: Transform) -> bool:
        """Append a pose; False, and it is left out, unless it is newer than the last."""
        with self._lock:
            travelled = 0.0
            if self._track:
                last = self._track[-1]
                if stamp_ns <= last.stamp_ns:
                    return False
                step = pose.translation - last.pose.translation
                travelled = last.travelled + float(np.linalg.norm(step))
            self._track.append(StampedPose(stamp_ns, pose, travelled))
            if self._kept is not None and len(self._track) > self._kept:
                del self._track[0]
            return True

    def clear(self) -> None:
        """Forget all poses and the distance travelled."""
        with self._lock:
            self._track.clear()

    def at(self, stamp_ns: int) -> Transform | None:
        """Pose at a moment: linear in translation, slerp in rotation; None as for `sample`."""
        sample = self.sample(stamp_ns)
        return None if sample is None else sample.pose

    def sample(self, stamp_ns: int) -> StampedPose | None:
        """Pose and distance travelled at a moment, interpolated.

        None outside the track and between poses more than `max_gap_ns` apart.
        """
        with self._lock:
            after = bisect_left(self._track, stamp_ns, key=lambda item: item.stamp_ns)
            if after == len(self._track):
                return None
            b = self._track[after]
            if b.stamp_ns == stamp_ns:
                return b
            if after == 0:
                return None
            a = self._track[after - 1]
        gap_ns = b.stamp_ns - a.stamp_ns
        if gap_ns > self.max_gap_ns:
            return None
        since_ns = stamp_ns - a.stamp_ns
        travelled = float(np.interp(since_ns, [0, gap_ns], [a.travelled, b.travelled]))
        return StampedPose(stamp_ns, interpolate(a.pose, b.pose, since_ns / gap_ns), travelled)


def sort_by_stamp(
    stamps_ns: Sequence[int] | NDArray[np.int64], poses: Sequence[Transform]
) -> Track:
    """Order poses by stamp, strictly increasing: of equal stamps the first pose stays."""
    stamps, first = np.unique(np.asarray(stamps_ns, dtype=np.int64), return_index=True)
    return Track(stamps, [poses[i] for i in first])
