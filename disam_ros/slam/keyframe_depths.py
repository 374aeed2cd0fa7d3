# SPDX-License-Identifier: Apache-2.0
"""Keypoints of a drive's keyframes with inverse depths triangulated by odometry.

Numbers were chosen on validation drives through the season town, by day and by night.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, Warp
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.local_features import open_features
from disam_ros.features.matching import match
from disam_ros.features.triangulation import PIXEL_SIGMA, inverse_depths, update_inverse_depths
from disam_ros.geometry import Transform
from disam_ros.localization.sequence.odometry import Reading, motion

FEATURES = "sift"
REACH = 2  # keyframes before this one that its keypoints are triangulated with


@dataclass(frozen=True, eq=False)
class View:
    """An image and its camera."""

    image: NDArray[np.uint8]  # RGB [H, W, 3]
    camera: Camera  # calibrated, for any image size
    warp: Warp | None = None  # that made the image, if one did


def extract(view: View, count: int) -> Keypoints:
    """The `count` strongest keypoints of an image, without depths; 144 bytes each.

    Raises ImageError.
    """
    keypoints = open_features(FEATURES).extract(view.image, count)
    keypoints = keypoints if view.warp is None else keypoints[view.warp.shows(keypoints.pixels)]
    return replace(keypoints.seen_by(view.camera, view.image), scores=None)


class KeyframeDepths:
    """Extracts the keypoints of keyframe after keyframe and triangulates them on the way.

    count: keypoints of an image. The last REACH keyframes are kept, and one image between the last
    and the next: over half the baseline keypoints are matched more often than over the whole.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._last: deque[tuple[Reading | None, Keypoints]] = deque(maxlen=REACH)
        self._between: tuple[Reading | None, View] | None = None

    def observe(self, view: View, odometry: Reading | None, baseline: float) -> None:
        """Takes an image that is no keyframe; keeps the first one that is at least `baseline`
        metres past the last keyframe."""
        if self._last and self._between is None:
            last, keypoints = self._last[-1]
            moved = _motion_of_camera(last, keypoints.calibrated_camera, odometry, view.camera)
            if moved is not None and np.linalg.norm(moved.translation) >= baseline:
                self._between = odometry, view

    def add(self, view: View, odometry: Reading | None) -> Keypoints:
        """Keypoints of the next keyframe; their depths, and those of the keyframes before, are
        updated as others follow, where odometry knows the motion. Raises ImageError."""
        keypoints = extract(view, self._count)
        others = list(self._last)
        if self._between is not None:
            before, between = self._between
            halfway = extract(between, self._count)
            _triangulate(*others[-1], before, halfway)
            others.append((before, halfway))
            self._between = None
        for before, other in others:
            _triangulate(before, other, odometry, keypoints)
        self._last.append((odometry, keypoints))
        return keypoints


def _motion_of_camera(
    before: Reading | None, camera_then: Camera, now: Reading | None, camera_now: Camera
) -> Transform | None:
    """then_from_now of the camera, which may be mounted differently; None: unknown."""
    moved = motion(before, now)
    if moved is None:
        return None
    return camera_then.base_from_camera.inverse() @ moved @ camera_now.base_from_camera


def _triangulate(before: Reading | None, a: Keypoints, now: Reading | None, b: Keypoints) -> None:
    """`triangulate` by odometry; nothing is updated where the motion is unknown."""
    a_from_b = _motion_of_camera(before, a.calibrated_camera, now, b.calibrated_camera)
    if a_from_b is not None:
        triangulate(a, b, a_from_b)


def triangulate(a: Keypoints, b: Keypoints, a_from_b: Transform) -> None:
    """Update the inverse depths of the keypoints that two images share, in both, in place."""
    rows_b, rows_a = match(FEATURES, b.descriptors, a.descriptors).T
    bearings_a, bearings_b = a[rows_a].bearings, b[rows_b].bearings
    sigma = PIXEL_SIGMA * max(a.pixel_angle, b.pixel_angle)
    in_a = inverse_depths(bearings_a, bearings_b, a_from_b.inverse(), sigma)
    in_b = inverse_depths(bearings_b, bearings_a, a_from_b, sigma)
    update_inverse_depths(a, rows_a, *in_a)
    update_inverse_depths(b, rows_b, *in_b)
