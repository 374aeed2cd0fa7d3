# SPDX-License-Identifier: Apache-2.0
"""Detects cameras whose clocks differ from that of the vehicle."""

from __future__ import annotations

from collections.abc import Callable

RECENT = 3  # images of every camera within which those count that still send some
ONE_CLOCK_NS = 1_000_000_000  # by which stamps of one clock may differ
CLOCK_JUMP_NS = 10_000_000_000  # step of a camera's stamps that the others have to confirm


class ClockVote:
    """Detects a camera whose stamps are not of the clock that most cameras of a vehicle have."""

    def __init__(self) -> None:
        self._stamps: dict[str, tuple[int, int]] = {}  # the last two by camera [ns]
        self._numbers: dict[str, int] = {}  # of its last image, among all
        self._count = 0

    def agrees(self, camera: str, stamp_ns: int) -> bool:
        """Whether an image's stamp is of the common clock: of most cameras that sent images of
        late; among as many, of the first camera. A jump is one only when most cameras made it.
        """
        self._count += 1
        before = self._stamps.get(camera, (stamp_ns, stamp_ns))[0]
        self._stamps[camera], self._numbers[camera] = (stamp_ns, before), self._count
        newest = self._count - RECENT * len(self._stamps)
        recent = {name: self._stamps[name] for name, n in self._numbers.items() if n > newest}
        if abs(stamp_ns - before) > CLOCK_JUMP_NS:
            followed = sum(abs(last - stamp_ns) <= ONE_CLOCK_NS for last, _ in recent.values())
            return 2 * followed > len(recent)
        votes = {
            name: sum(map(_one_clock(stamps), recent.values())) for name, stamps in recent.items()
        }
        leader = max(votes, key=lambda name: votes[name])
        return _one_clock(recent[leader])(recent[camera])


def _one_clock(stamps: tuple[int, int]) -> Callable[[tuple[int, int]], bool]:
    """Whether any two of the last stamps of two cameras are near each other."""
    return lambda others: any(abs(a - b) <= ONE_CLOCK_NS for a in stamps for b in others)
