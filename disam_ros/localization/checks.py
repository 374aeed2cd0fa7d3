# SPDX-License-Identifier: Apache-2.0
"""Checks of images against what a working camera and its vehicle would give.

Stamps out of order, blank and frozen images; odometry that the images contradict, which stands
while the view moves or the reverse; cameras that are mounted upside down, or whose driver has
turned their images already.

Fine similarity to an image a while ago tells a view that moves from one that stands: on the demo's
drives and KITTI 00 it is below 0.56 after 10 m for 99 % of the images; at rest it is above 0.6 even
with a tenth of the view covered, another exposure and noise. Images that are upside down show no
place of the map: they are localized as unknown. Turned by 180° about the optical axis they show
one, which no other fault does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import LocalizerConfig
from disam_ros.errors import BlindError
from disam_ros.geometry import Transform, distance
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Answer, Frame, Query
from disam_ros.localization.sequence.odometry import Reading, motion
from disam_ros.plausibility import LONGEST_NS

BLACK, WHITE, UNIFORM = "black", "white", "of one colour"
FROZEN = "frozen"  # the same pixels, although odometry says that the vehicle moved
REPEATED = "repeated"  # the same pixels for long, without odometry

MIN_SIDE = 16  # pixels; less shows no place
MIN_CONTRAST = 10.0  # of 255 levels; the minimum of 1892 images by day and night was 86
OUTLIERS = 0.5  # percentage of the darkest and of the brightest pixels that are ignored
DARK, BRIGHT = 64.0, 192.0  # mean levels below and above which a uniform image is black or white
SAMPLED = 5_000  # pixels, about
MOVED_M, MOVED_DEG = 0.5, 5.0  # motion by odometry that is no drift of a vehicle at rest
REPEATS, REPEATED_NS = 4, 2_000_000_000  # repeats and their duration from which they are reported
OTHER_VIEW, SAME_VIEW = 0.5, 0.8  # similarity below and above which a view has changed or not
IMAGES = 5  # in a row that contradict
FAR = 10.0  # distance by odometry after which no view stays the same [m]
STANDS = (
    "odometry stands still while the view of camera '{camera}' changes: motion counts as unknown "
    "until it moves. Is its topic the vehicle's, and are its wheels driven?"
)
RUNS = (
    "odometry moves while the view of camera '{camera}' stays the same: motion counts as unknown "
    "until the view changes. Do the wheels slip, or does the camera repeat its images?"
)
EVERY = 5  # images of unknown place of which one is turned at first
RAREST = 40  # while turned images show no place: twice as rarely each time, up to one in these
WINS = 3  # turned images in a row that show a place
LEAD = 3.0  # log odds by which a turned image exceeds the camera's own

REMEDY = (
    "images of camera '{camera}' show the map only when they are turned by 180°: it is mounted "
    "upside down, or its driver turns them already; set the roll of its extrinsics accordingly"
)


class StampOrder:
    """Detects stamps that cannot be capture times: zero, or before the camera's last one."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}  # stamps of the last two images of a camera

    def usable(self, camera: str, stamp_ns: int) -> int | None:
        """The stamp; None where it cannot be a capture time. Stamps may repeat.

        A stamp that goes back is one where it follows the image before the last, whose own was then
        a stray, far ahead.
        """
        before, last = self._last.get(camera, (0, 0))
        stray = 0 < before <= stamp_ns < last - LONGEST_NS and stamp_ns - before <= LONGEST_NS
        self._last[camera] = (before if stray else last, stamp_ns)
        return stamp_ns if stamp_ns > 0 and (stamp_ns >= last or stray) else None


class VisibilityCheck:
    """Rejects tiny and blank images and those of a frozen camera; detects repeated ones."""

    def __init__(self) -> None:
        self._watches: dict[str, FrozenWatch] = {}

    def informative(self, frame: Frame, motion: Reading | None) -> bool:
        """Whether the image is evidence of the place: False where it repeats the last ones.

        motion: odometry at the image's stamp; None: unknown. Raises BlindError where nothing is
        visible, or where the pixels stay the same although the vehicle moved.
        """
        height, width = frame.image.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise BlindError(
                f"the image of camera '{frame.camera}' has {width}x{height} pixels, expected at "
                f"least {MIN_SIDE}x{MIN_SIDE}: publish it as the camera took it"
            )
        if colour := blank(frame.image):
            raise BlindError(
                f"the image of camera '{frame.camera}' is {colour}: covered, blinded or without "
                f"light"
            )
        watch = self._watches.setdefault(frame.camera, FrozenWatch())
        verdict = watch.check(frame.image, frame.stamp_ns, motion)
        if verdict == FROZEN:
            raise BlindError(
                f"camera '{frame.camera}' is frozen: the same pixels, and odometry says that it "
                f"moved"
            )
        return verdict != REPEATED


def blank(image: NDArray[np.uint8]) -> str:
    """BLACK, WHITE or UNIFORM for an image without contrast, else empty. image: uint8 [H, W, 3]."""
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLED)))
    pixels = image[::step, ::step].reshape(-1, image.shape[-1])
    left = int(OUTLIERS / 100.0 * (len(pixels) - 1))  # out at either end
    ordered = np.partition(pixels, (left, len(pixels) - 1 - left), axis=0)
    if (ordered[len(pixels) - 1 - left] - ordered[left]).max() >= MIN_CONTRAST:
        return ""
    level = float(pixels.mean())
    if level < DARK:
        return BLACK
    return WHITE if level > BRIGHT else UNIFORM


@dataclass
class _Run:
    """Consecutive images with the same pixels. repeats: their number after the first."""

    image: NDArray[np.uint8]
    first_ns: int
    last_ns: int
    reading: Reading | None
    repeats: int = 0


class FrozenWatch:
    """Detects repeated pixels in the images of one camera."""

    def __init__(self) -> None:
        self._run: _Run | None = None

    def check(self, image: NDArray[np.uint8], stamp_ns: int | None, reading: Reading | None) -> str:
        """FROZEN, REPEATED or empty.

        image: uint8 [H, W, 3]; a reference to it is kept. stamp_ns, reading: its stamp and the
        odometry at it; None: unknown. An image that repeats the last stamp is no repeat.
        """
        run, stamp_ns = self._run, stamp_ns or 0
        if run is None or stamp_ns < run.last_ns or not _equal(image, run.image):
            self._run = _Run(image, stamp_ns, stamp_ns, reading)
            return ""
        if stamp_ns > run.last_ns:
            run.last_ns, run.repeats = stamp_ns, run.repeats + 1
        run.reading = run.reading or reading
        moved = motion(run.reading, reading)
        if moved is not None and _is_motion(moved):
            return FROZEN if run.repeats else ""
        long = run.repeats >= REPEATS and run.last_ns - run.first_ns >= REPEATED_NS
        return REPEATED if moved is None and long else ""


def _equal(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two images have the same pixels; mostly one row tells."""
    row = len(image) // 2
    return image.shape == other.shape and bool(
        (image[row] == other[row]).all() and np.array_equal(image, other)
    )


def _is_motion(moved: Transform) -> bool:
    """Whether a motion by odometry is more than the drift of a vehicle at rest."""
    metres, degrees = distance(Transform.identity(), moved)
    return metres >= MOVED_M or degrees >= MOVED_DEG


@dataclass
class _Watch:
    """The image that others of its camera are compared with."""

    query: Query
    reading: Reading
    count: int = 0  # images in a row that contradict the odometry
    fault: str = ""


class OdometryCheck:
    """Compares odometry with the views of each camera."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}

    def fault(self, query: Query, reading: Reading | None) -> str:
        """Why odometry cannot be believed at an image; empty: nothing contradicts it.

        reading: odometry at the image's stamp; None: unknown.
        """
        watch = self._watches.get(query.camera)
        moved = None if watch is None else motion(watch.reading, reading)
        if reading is None or watch is None or moved is None:
            self._watches.pop(query.camera, None)
            if reading is not None:
                self._watches[query.camera] = _Watch(query, reading)
            return ""
        moves, similarity = _is_motion(moved), _similarity(query, watch.query)
        contradicts = ""
        if not moves and similarity < OTHER_VIEW:
            contradicts = STANDS
        elif moves and similarity > SAME_VIEW:
            contradicts = RUNS if np.linalg.norm(moved.translation) >= FAR else watch.fault
        elif moves:  # and the view has changed: they agree
            self._watches[query.camera] = _Watch(query, reading)
            return ""
        watch.count = watch.count + 1 if contradicts else 0
        watch.fault = contradicts if watch.count >= IMAGES else ""
        return watch.fault.format(camera=query.camera)


def _similarity(query: Query, other: Query) -> float:
    """Cosine of two fine feature maps, arrays or tensors."""
    a, b = query.fine, other.fine
    return float((a * b).sum() / ((a * a).sum() * (b * b).sum() + 1e-12) ** 0.5)


@dataclass
class _Count:
    """Images of unknown place in a row, and of the last turned ones those that show a place."""

    unknown: int = 0
    wins: int = 0
    pause: int = EVERY  # images until the next one is turned
    turns_at: int = EVERY  # number of that image


class UpsideDownCheck:
    """Compares turned images of cameras with the map, now and then, while places are unknown."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = defaultdict(_Count)

    def is_turned(
        self, localizer: Localizer, query: Query, answer: Answer, config: LocalizerConfig
    ) -> bool:
        """Whether the last images of the query's camera show places of the map only when turned.

        answer: to the query. Raises as `Localizer.search`.
        """
        count = self._counts[query.camera]
        if answer.known:
            self._counts[query.camera] = _Count()
            return False
        count.unknown += 1
        if count.unknown == count.turns_at:
            turned = _turned_log_odds(localizer, query, config)
            wins = turned > max(0.0, localizer.log_odds(answer.candidates) + LEAD)
            count.wins = count.wins + 1 if wins else 0
            count.pause = EVERY if wins else min(2 * count.pause, RAREST)
            count.turns_at += count.pause
        return count.wins >= WINS


def _turned_log_odds(localizer: Localizer, query: Query, config: LocalizerConfig) -> float:
    """Log odds that the best map image of the query's view, turned by 180°, is the right one."""
    view = query.frame
    turned = replace(view, image=view.image[::-1, ::-1].copy(), warp=None)
    (encoded,) = localizer.encode([turned], query.domain)
    return localizer.log_odds(localizer.rerank(encoded, localizer.search(encoded, config)))
