# SPDX-License-Identifier: Apache-2.0
"""Which poses can be a vehicle's: one rule of place, speed and time for files, bags and topics."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS, Track

FASTEST = 100.0  # speed of no vehicle [m/s]
SLACK = 10.0  # step that is no leap, however short the time [m]
LONGEST_NS = 60 * NANOSECONDS  # time between poses beyond which a stamp is doubted
LEAST_LEFT_OUT = 2  # poses that may be left out of any track; of a long one, a share of
MOST_LEFT_OUT = 0.1


class Step(NamedTuple):
    """A pose at a moment."""

    stamp_ns: int
    pose: Transform


def follows(last: Step, step: Step) -> bool:
    """Whether a vehicle can be at `step` next, at a later moment."""
    elapsed_ns = step.stamp_ns - last.stamp_ns
    if not 0 < elapsed_ns <= LONGEST_NS:
        return False
    metres = float(np.linalg.norm(step.pose.translation - last.pose.translation))
    return metres <= FASTEST * elapsed_ns / NANOSECONDS + SLACK


class Gate:
    """Passes the plausible poses of a stream.

    A pose that cannot follow the last one waits for the next: if that follows it, the track starts
    over with both; otherwise it was a stray, and is left out.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._last: Step | None = None
        self._doubted: Step | None = None

    def passes(self, stamp_ns: int, pose: Transform) -> tuple[list[Step], bool]:
        """Return the poses that are plausible now, oldest first; and whether the track starts over
        with them. A second pose at one stamp is left out."""
        step, last, doubted = Step(stamp_ns, pose), self._last, self._doubted
        if last is not None and stamp_ns == last.stamp_ns:
            self.left_out += 1
            return [], False
        self._doubted = None
        if last is None or follows(last, step):
            self.left_out += doubted is not None
            self._last = step
            return [step], False
        if doubted is not None and follows(doubted, step):
            self._last = step
            return [doubted, step], True
        self.left_out += doubted is not None
        self._doubted = step
        return [], False


def without_strays(track: Track) -> tuple[Track, str]:
    """Return a track without poses that no vehicle drove (`plausible_rows`), and a text about
    these; empty: none."""
    if len(track.stamps) < 2:
        return track, ""
    points = np.stack([pose.translation for pose in track.poses])
    rows, text = plausible_rows(track.stamps, points)
    if len(rows) == len(points):
        return track, text
    return Track(track.stamps[rows], [track.poses[row] for row in rows]), text


def plausible_rows(
    stamps: NDArray[np.int64], points: NDArray[np.float64]
) -> tuple[NDArray[np.int64], str]:
    """Return rows of a vehicle's stamps [N] [ns], increasing, and positions [N, 3] [m], and a text
    about those left out; empty: none.

    Left out are few rows to which the vehicle would have leapt and back again. Where many are
    apart, it is the track that is doubted, and all of them stay.
    """
    metres = np.linalg.norm(np.diff(points, axis=0), axis=1)
    leaps = metres > FASTEST * np.diff(stamps) / NANOSECONDS + SLACK
    pieces = np.split(np.arange(len(points)), np.flatnonzero(leaps) + 1)
    strays = ~_joined(stamps, points, pieces)
    count = int(strays.sum())
    if not count:
        return np.arange(len(points)), ""
    if count > max(LEAST_LEFT_OUT, MOST_LEFT_OUT * len(points)) or 2 * count >= len(points):
        return np.arange(len(points)), (
            f"{len(pieces) - 1} steps are faster than {FASTEST:g} m/s and stay: are the positions "
            "metres, and the times seconds?"
        )
    origin = int((~points[strays, :2].any(axis=1)).sum())
    zero = f", {origin} of them at (0, 0)" if origin else ""
    return np.flatnonzero(~strays), (
        f"left out {count} of {len(points)} poses to which no vehicle gets, faster than "
        f"{FASTEST:g} m/s{zero}; the first is at {stamps[strays][0] / NANOSECONDS:.3f} s"
    )


def _joined(
    stamps: NDArray[np.int64], points: NDArray[np.float64], pieces: list[NDArray[np.int64]]
) -> NDArray[np.bool_]:
    """Which rows stay: those of long pieces, and of short ones that are reached from them."""
    kept = np.zeros(len(points), bool)
    longest = int(np.argmax([len(piece) for piece in pieces]))
    share = max(LEAST_LEFT_OUT, MOST_LEFT_OUT * len(points) / 2)
    kept[pieces[longest]] = True
    for order in (pieces[longest:], pieces[longest::-1]):
        last = order[0]
        for piece in order[1:]:
            first, second = sorted((last, piece), key=lambda rows: int(rows[0]))
            elapsed = (stamps[second[0]] - stamps[first[-1]]) / NANOSECONDS
            metres = np.linalg.norm(points[second[0]] - points[first[-1]])
            if len(piece) > share or metres <= FASTEST * elapsed + SLACK:
                kept[piece] = True
                last = piece
    return kept
