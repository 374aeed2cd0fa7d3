# SPDX-License-Identifier: Apache-2.0
"""Keypoints of a drive's keyframes with inverse depths triangulated by odometry.

Numbers were chosen on validation drives through the season town, by day and by night.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.local_features import open_features
from disam_ros.features.matching import match
from disam_ros.features.triangulation import PIXEL_SIGMA, inverse_depths, update_inverse_depths
from disam_ros.geometry import Transform, distance

FEATURES = "sift"
REACH = 2  # keyframes before this one that its keypoints are triangulated with


@dataclass(frozen=True, eq=False)
class View:
    """An image uint8 RGB [H, W, 3] and its camera: calibrated, for any image size."""

    image: NDArray[np.uint8]
    camera: Camera


def extract(view: View, count: int) -> Keypoints:
    """The `count` strongest keypoints of an image, without depths; 144 bytes each.

    Raises ImageError.
    """
    found = open_features(FEATURES).extract(view.image, count)
    return replace(found.seen_by(view.camera, view.image), scores=None)


class KeyframeDepths:
    """Extracts the keypoints of keyframe after keyframe and triangulates them on the way.

    count: keypoints of an image. The last REACH keyframes are kept, and one image between the last
    and the next: over half the baseline keypoints are matched more often than over the whole.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._last: deque[tuple[Transform, Keypoints]] = deque(maxlen=REACH)
        self._between: tuple[Transform, View] | None = None

    def observe(self, view: View, drive_from_base: Transform, baseline: float) -> None:
        """An image that is no keyframe; kept if it is the first at least `baseline` metres past the
        last keyframe."""
        if self._last and self._between is None:
            drive_from_camera = drive_from_base @ view.camera.base_from_camera
            if distance(self._last[-1][0], drive_from_camera)[0] >= baseline:
                self._between = drive_from_camera, view

    def add(self, view: View, drive_from_base: Transform) -> Keypoints:
        """Keypoints of the next keyframe; their depths, and those of the keyframes before, are
        updated as others follow. Raises ImageError."""
        keypoints = extract(view, self._count)
        drive_from_camera = drive_from_base @ view.camera.base_from_camera
        others = list(self._last)
        if self._between is not None:
            drive_from_between, between = self._between
            halfway = extract(between, self._count)
            drive_from_last, last = others[-1]
            triangulate(last, halfway, drive_from_last.inverse() @ drive_from_between)
            others.append((drive_from_between, halfway))
            self._between = None
        for drive_from_other, other in others:
            triangulate(other, keypoints, drive_from_other.inverse() @ drive_from_camera)
        self._last.append((drive_from_camera, keypoints))
        return keypoints

    def reset(self) -> None:
        """The motion since the last keyframe is unknown: triangulate with none before."""
        self._last.clear()
        self._between = None


def triangulate(a: Keypoints, b: Keypoints, a_from_b: Transform) -> None:
    """Update the inverse depths of the keypoints that two images share, in both, in place."""
    rows_b, rows_a = match(FEATURES, b.descriptors, a.descriptors).T
    bearings_a, bearings_b = a[rows_a].bearings, b[rows_b].bearings
    sigma = PIXEL_SIGMA * max(a.pixel_angle, b.pixel_angle)
    in_a = inverse_depths(bearings_a, bearings_b, a_from_b.inverse(), sigma)
    in_b = inverse_depths(bearings_b, bearings_a, a_from_b, sigma)
    update_inverse_depths(a, rows_a, *in_a)
    update_inverse_depths(b, rows_b, *in_b)
