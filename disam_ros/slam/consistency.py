# SPDX-License-Identifier: Apache-2.0
"""Odometry consistency of consecutive place matches."""

from __future__ import annotations

from disam_ros.geometry import Transform, distance

SLACK = 2.0  # metres, on top of the spacing of images, by which match and odometry may disagree
ANGLE = 15.0  # degrees by which they may


class ConsistencyCheck:
    """Whether the last `length` matches lie to each other as odometry says."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._matches: list[tuple[Transform, Transform]] = []

    def reset(self) -> None:
        """Start a new sequence of matches."""
        self._matches = []

    def add(self, matched: Transform, here: Transform, spacing: float) -> None:
        """A match: its pose, in any frame that all share, and the vehicle's by odometry.

        spacing: metres between the images that may be matched. A contradiction starts a new
        sequence with this match.
        """
        for other, there in self._matches:
            gap, turn = distance(other.inverse() @ matched, there.inverse() @ here)
            if gap > SLACK + spacing or turn > ANGLE:
                self.reset()
                break
        self._matches = [*self._matches, (matched, here)][-self._length :]

    @property
    def consistent(self) -> bool:
        """Whether enough matches agree."""
        return len(self._matches) >= self._length
