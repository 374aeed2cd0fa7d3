# SPDX-License-Identifier: Apache-2.0
"""What the page shows, of bounded size: filled by the ROS thread, read by that of the server.

Each page keeps a cursor and is sent what is newer. A page that reads slowly is sent less often and
then the newest: nothing is queued for it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from disam_ros.files.writing import finite

TRACK = 4000  # last positions kept
HISTORY = 1200  # last outcomes kept
WINDOW = 120.0  # time that outcomes are kept [s]
BREAK = None  # in the track, where the place was unknown in between


@dataclass
class Cursor:
    """Versions of what a page has been sent."""

    map: int = 0
    track: int = 0  # number of positions
    history: int = 0  # number of outcomes
    pictures: int = 0
    state: int = -1


@dataclass
class Scene:
    """The content of all pages, in values of JSON without NaN."""

    node: str  # the localizer's name with the namespace
    viewers: int = 0  # pages that are open
    values: dict[str, Any] = field(default_factory=dict)  # single values by name
    map: dict[str, Any] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)  # JPEGs: query, match, activation map
    _track: deque[Any] = field(default_factory=lambda: deque(maxlen=TRACK))
    _history: deque[list[Any]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _now: Cursor = field(default_factory=Cursor)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, **values: Any) -> None:
        """Set single values."""
        values = finite(values)
        with self._lock:
            if any(self.values.get(name) != value for name, value in values.items()):
                self.values |= values
                self._now.state += 1

    def set_map(self, frame: str, points: list[tuple[float, float]]) -> None:
        """Set the positions [m] of a map's images; another map than before ends the track."""
        content = finite({"frame": frame, "points": points})
        with self._lock:
            if content != self.map:
                self.map = content
                self._now.map += 1
                self._track.clear()

    def add_position(self, x: float, y: float) -> None:
        """Add a position of the vehicle [m]."""
        if math.isfinite(x) and math.isfinite(y):
            self._extend([round(x, 2), round(y, 2)])

    def break_track(self) -> None:
        """End the line of positions: the place was unknown."""
        if self._track and self._track[-1] is not BREAK:
            self._extend(BREAK)

    def add_outcome(
        self, outcome: str, probability: float | None, latency: float | None = None
    ) -> None:
        """Add the outcome of an image that was answered now. latency: until its pose [ms]."""
        now = time.monotonic()
        with self._lock:
            self._history.append([round(now, 3), finite(probability), outcome, finite(latency)])
            self._now.history += 1
            while now - self._history[0][0] > WINDOW:
                self._history.popleft()

    def set_pictures(self, jpegs: list[bytes]) -> None:
        """Set the pictures of query, match and activation map."""
        with self._lock:
            self.pictures = jpegs
            self._now.pictures += 1

    def news(self, cursor: Cursor, always: bool = False) -> tuple[str, list[bytes]]:
        """A JSON text and pictures that are newer than a cursor, which moves; empty without news.

        always: a text even so.
        """
        with self._lock:
            now = self._now
            message: dict[str, Any] = {"node": self.node, **self.values}
            if cursor.map != now.map:
                message["map"], cursor.track = self.map, 0
            message["restart"] = cursor.track == 0
            message["track"] = _last(self._track, now.track - cursor.track)
            message["history"] = _last(self._history, now.history - cursor.history)
            text = cursor != now or always
            pictures = self.pictures if cursor.pictures != now.pictures else []
            cursor.__dict__.update(now.__dict__)
        message["clock"] = round(time.monotonic(), 3)
        return json.dumps(message, allow_nan=False) if text else "", pictures

    def _extend(self, position: list[float] | None) -> None:
        with self._lock:
            self._track.append(position)
            self._now.track += 1


def _last(items: deque[Any], count: int) -> list[Any]:
    """Return the last `count` items."""
    return list(items)[-count:] if count else []
