# SPDX-License-Identifier: Apache-2.0
"""Consistency of consecutive place matches: by odometry, or by the order of the places."""

from __future__ import annotations

from disam_ros.geometry import distance
from disam_ros.localization.sequence.odometry import motion
from disam_ros.slam.keyframes import Keyframe

SLACK = 2.0  # metres, on top of the spacing of images, by which match and odometry may disagree
ANGLE = 15.0  # degrees by which they may
STRETCH = 1.5  # factor by which distances driven may, where odometry does not relate the places

Match = tuple[Keyframe, Keyframe]  # the place then, and the image now


class ConsistencyCheck:
    """Tests whether the last `length` matches lie to each other as the images now do."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._matches: list[Match] = []

    def reset(self) -> None:
        """Start a new sequence of matches."""
        self._matches = []

    def add(self, then: Keyframe, now: Keyframe, spacing: float) -> None:
        """Adds a match. spacing: metres between the images that may be matched.

        A contradiction starts a new sequence with this match.
        """
        match = then, now
        if not all(_agree(other, match, SLACK + spacing) for other in self._matches):
            self.reset()
        self._matches = [*self._matches, match][-self._length :]

    @property
    def consistent(self) -> bool:
        """Whether enough matches agree."""
        return len(self._matches) >= self._length


def _agree(a: Match, b: Match, slack: float) -> bool:
    """Whether the places then are related as the images now: by odometry where it relates both
    pairs, else by the distances driven, so that revisited places advance with the vehicle."""
    then, now = motion(a[0].odometry, b[0].odometry), motion(a[1].odometry, b[1].odometry)
    if then is not None and now is not None:
        gap, turn = distance(then, now)
        return gap <= slack and turn <= ANGLE
    revisited = abs(b[0].travelled - a[0].travelled)
    driven = abs(b[1].travelled - a[1].travelled)
    return driven / STRETCH - slack <= revisited <= driven * STRETCH + slack
