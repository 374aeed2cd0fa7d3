# SPDX-License-Identifier: Apache-2.0
"""A moving picture of a drive: camera image, map image and the map from above, as a GIF."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disam_ros.errors import ConfigError
from disam_ros.files.outputs import writing
from disam_ros.files.writing import atomic_file
from disam_ros.localization.query import KNOWN
from disam_ros.nodes.view.scene import TRACK, Cursor, Scene

PERIOD = 0.2  # time between two looks for a new picture [s]
MOST = 240  # frames kept; of more, every second one goes
COLOURS = 64  # of a frame
LONGEST = 1000  # time that a frame is shown [ms]
TITLE, MARGIN = 24, 14  # [px]
DARK, GREY, WHITE, GREEN = (28, 21, 16), (115, 98, 86), (242, 237, 232), (111, 191, 63)  # BGR
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42

Picture = NDArray[np.uint8]  # BGR [h, w, 3]


class Recording:
    """Takes the pictures of a scene until it is cancelled, and writes them."""

    def __init__(self, scene: Scene, path: Path) -> None:
        if path.suffix.lower() != ".gif":
            raise ConfigError(f"--record {path}: expected a name that ends with .gif")
        self._scene, self._path = scene, path
        self._frames: list[tuple[float, Image.Image]] = []  # time [s] and picture
        self._taken, self._every = 0, 1  # pictures that came; every which one is kept
        self._track: list[Any] = []
        self._points: list[Any] = []

    async def run(self) -> None:
        """Takes pictures until cancelled."""
        cursor = Cursor()
        self._scene.viewers += 1  # so that pictures are subscribed to
        try:
            while True:
                self.take(cursor)
                await asyncio.sleep(PERIOD)
        finally:
            self._scene.viewers -= 1

    def take(self, cursor: Cursor) -> None:
        """Adds a frame if there are pictures that are newer than the cursor, which moves."""
        text, jpegs = self._scene.news(cursor)
        if not text:
            return
        news = json.loads(text)
        self._points = news["map"]["points"] if "map" in news else self._points
        self._track = ([] if news["restart"] else self._track) + news["track"]
        self._track = self._track[-TRACK:]
        if not jpegs:
            return
        self._taken += 1
        if self._taken % self._every == 0:
            frame = cv2.cvtColor(self._draw(news, jpegs), cv2.COLOR_BGR2RGB)
            self._frames.append(
                (
                    time.monotonic(),
                    Image.fromarray(frame).quantize(COLOURS, dither=Image.Dither.NONE),
                )
            )
        if len(self._frames) > MOST:
            self._frames, self._every = self._frames[::2], 2 * self._every

    def write(self) -> int:
        """Writes the file, if there is a frame. Returns the number of frames."""
        if not self._frames:
            return 0
        times = [stamp for stamp, _ in self._frames]
        gaps = np.diff([*times, times[-1] + PERIOD]) * 1000
        first, *others = [frame for _, frame in self._frames]
        with writing(self._path), atomic_file(self._path, "wb") as file:
            durations = [int(gap) for gap in gaps.clip(20, LONGEST)]
            first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
        return len(self._frames)

    def _draw(self, news: dict[str, Any], jpegs: list[bytes]) -> Picture:
        """Draws the camera image, the map image and the map beside each other."""
        is_known = news.get("state") == KNOWN
        query, match = (
            np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
            for jpeg in jpegs[:2]
        )
        height = query.shape[0]
        plan = self._plan(height, news.get("pose"), is_known)
        bar = np.full((TITLE, query.shape[1] + match.shape[1] + height, 3), DARK, np.uint8)
        answer = news.get("answer") or {}
        titles = {
            0: f"camera, {answer.get('domain', '')}",
            query.shape[1]: f"map image {answer.get('map image', '-')}",
            query.shape[1] + match.shape[1]: "known" if is_known else "unknown",
        }
        for left, title in titles.items():
            cv2.putText(bar, title, (left + 6, TITLE - 8), FONT, SIZE, WHITE, 1, cv2.LINE_AA)
        return np.vstack([bar, np.hstack([query, match, plan])])

    def _plan(self, side: int, pose: dict[str, float] | None, is_known: bool) -> Picture:
        """Draws the map from above: map images, the track and the vehicle."""
        plan = np.full((side, side, 3), DARK, np.uint8)
        places = np.array([p for p in [*self._points, *self._track] if p], np.float64)
        if not len(places):
            return plan
        low, high = places.min(0), places.max(0)
        scale = (side - 2 * MARGIN) / max(float((high - low).max()), 1.0)

        def pixel(point: Any) -> tuple[int, int]:
            x, y = (np.array(point) - (low + high) / 2) * scale
            return round(side / 2 + float(x)), round(side / 2 - float(y))

        for point in self._points:
            cv2.circle(plan, pixel(point), 1, GREY, -1)
        for one, other in zip(self._track, self._track[1:], strict=False):
            if one and other:
                cv2.line(plan, pixel(one), pixel(other), GREEN, 2, cv2.LINE_AA)
        if pose:
            centre = pixel((pose["x"], pose["y"]))
            cv2.circle(plan, centre, 5, WHITE, -1 if is_known else 1, cv2.LINE_AA)
        return plan
