# SPDX-License-Identifier: Apache-2.0
"""Checks of the input: stamps out of order, blank images, frozen cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import BlindError
from disam_ros.geometry import Transform, distance
from disam_ros.localization.query import Frame
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
MOVED_M, MOVED_DEG = 0.5, 5.0  # motion by odometry from which the same pixels are a fault
REPEATS, REPEATED_NS = 4, 2_000_000_000  # repeats and their duration from which they are reported


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
        moved = _moved(run.reading, reading)
        if moved:
            return FROZEN if run.repeats else ""
        long = run.repeats >= REPEATS and run.last_ns - run.first_ns >= REPEATED_NS
        return REPEATED if moved is None and long else ""


def _equal(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two images have the same pixels; mostly one row tells."""
    row = len(image) // 2
    return image.shape == other.shape and bool(
        (image[row] == other[row]).all() and np.array_equal(image, other)
    )


def _moved(before: Reading | None, now: Reading | None) -> bool | None:
    """Whether the vehicle moved between two readings; None: unknown."""
    moved = motion(before, now)
    if moved is None:
        return None
    metres, degrees = distance(Transform.identity(), moved)
    return metres >= MOVED_M or degrees >= MOVED_DEG
