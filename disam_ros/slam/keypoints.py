# SPDX-License-Identifier: Apache-2.0
"""The points of a drive's keyframes, their depths, and how two keyframes lie to each other.

Depths come from the images before and after, as far away as odometry says (triangulation.py).
Numbers were chosen on validation drives through the season town, by day and by night.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from disam_ros.camera import Camera, directions
from disam_ros.features.local_features import LONGEST, match, open_features
from disam_ros.features.relative_pose import Pairs, relative_pose
from disam_ros.features.triangulation import NOISE, TOLERANCE, inverse_depths
from disam_ros.geometry import Transform, distance
from disam_ros.slam.loop_hint import Relation
from disam_ros.uncertainty import carried

FEATURES = "sift"
REACH = 2  # keyframes before this one that depths are sought in
LEAST_INLIERS = 12  # points that must agree; of two different places, fewer do
FEWEST = 24  # points of an image below which they have no say
SCALE = 0.03  # 1 sigma of odometry's error per metre, which is that of depths, too
FLOOR_METRES, FLOOR_DEGREES = 0.05, 0.2  # 1 sigma of what all points of an image err alike by


@dataclass(frozen=True)
class View:
    """What a camera of the vehicle sees. image: uint8 RGB [H, W, 3]; camera: calibrated, of any
    image size."""

    image: np.ndarray
    camera: Camera


@dataclass
class DrivePoints:
    """Points of a keyframe; 144 bytes each.

    views: directions float32 [K, 2]. descriptors: uint8 [K, D]. inverse, precision: inverse depths
    (1/m) and 1/σ², float32 [K], 0 where unknown; they change as keyframes follow. noise: standard
    deviation of a direction.
    """

    views: np.ndarray
    descriptors: np.ndarray
    inverse: np.ndarray
    precision: np.ndarray
    noise: float
    base_from_camera: Transform

    @classmethod
    def of(cls, view: View, count: int) -> DrivePoints:
        """The `count` best points of an image, none with a depth. Raises ImageError."""
        found = open_features(FEATURES).extract(view.image, count)
        height, width = view.image.shape[:2]
        camera = view.camera.resized(width, height)
        pixel = max(1.0, max(height, width) / LONGEST) / min(camera.fx, camera.fy)
        return cls(
            views=directions(camera, found.points).astype(np.float32),
            descriptors=found.descriptors,
            inverse=np.zeros(len(found), np.float32),
            precision=np.zeros(len(found), np.float32),
            noise=NOISE * pixel,
            base_from_camera=view.camera.base_from_camera,
        )

    def learn(self, rows: np.ndarray, inverse: np.ndarray, precision: np.ndarray) -> None:
        """What another image tells of the inverse depths of some points.

        A point of which two images tell differently is taken to be matched wrongly: its depth is
        forgotten.
        """
        before, sure = self.inverse[rows], self.precision[rows]
        total = np.maximum(sure + precision, 1e-12)
        gap = (before - inverse) ** 2 * sure * precision / total  # over the sum of both variances
        agree = gap <= TOLERANCE**2
        mean = (sure * before + precision * inverse) / total
        self.inverse[rows] = np.where(agree, mean, 0.0)
        self.precision[rows] = np.where(agree, sure + precision, 0.0)


class PointTrail:
    """Takes the points of keyframe after keyframe, and gives them depths as it goes.

    count: how many of an image. The last REACH keyframes are kept, and one image on the way from
    the last: points are found again over half the way more often than over the whole.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._last: deque[tuple[Transform, DrivePoints]] = deque(maxlen=REACH)
        self._between: tuple[Transform, View] | None = None

    def pass_by(self, view: View, drive_from_base: Transform, apart: float) -> None:
        """An image that is no keyframe; kept if it is the first so many metres past the last."""
        if self._last and self._between is None:
            drive_from_camera = drive_from_base @ view.camera.base_from_camera
            if distance(self._last[-1][0], drive_from_camera)[0] >= apart:
                self._between = drive_from_camera, view

    def take(self, view: View, drive_from_base: Transform) -> DrivePoints:
        """Points of the next keyframe, where odometry says that it is. Raises ImageError."""
        points = DrivePoints.of(view, self._count)
        drive_from_camera = drive_from_base @ view.camera.base_from_camera
        others = list(self._last)
        if self._between is not None:
            drive_from_between, between = self._between
            on_the_way = DrivePoints.of(between, self._count)
            drive_from_last, last = others[-1]
            triangulate(last, on_the_way, drive_from_last.inverse() @ drive_from_between)
            others.append((drive_from_between, on_the_way))
            self._between = None
        for drive_from_other, other in others:
            triangulate(other, points, drive_from_other.inverse() @ drive_from_camera)
        self._last.append((drive_from_camera, points))
        return points

    def break_off(self) -> None:
        """How the vehicle moved is not known."""
        self._last.clear()
        self._between = None


def triangulate(a: DrivePoints, b: DrivePoints, a_from_b: Transform) -> None:
    """What two images tell of the depths of each other's points."""
    rows_b, rows_a = match(FEATURES, b.descriptors, a.descriptors).T
    seen_a, seen_b, noise = a.views[rows_a], b.views[rows_b], max(a.noise, b.noise)
    a.learn(rows_a, *inverse_depths(seen_a, seen_b, a_from_b.inverse(), noise))
    b.learn(rows_b, *inverse_depths(seen_b, seen_a, a_from_b, noise))


def relate(then: DrivePoints, now: DrivePoints, wide: Relation) -> Relation | None:
    """Where the vehicle is, seen from where it was; None where points tell of different places.

    wide: what is known without them. It is given back where an image shows too few points to tell,
    and limits the relation where points do not settle it.
    """
    if min(len(then.views), len(now.views)) < FEWEST:
        return wide
    rows_now, rows_then = match(FEATURES, now.descriptors, then.descriptors).T
    pairs = Pairs(
        then.views[rows_then].astype(np.float64),
        now.views[rows_now].astype(np.float64),
        then.inverse[rows_then],
        then.precision[rows_then],
        float(np.hypot(then.noise, now.noise)),
    )
    found = relative_pose(pairs, wide.covariance)
    inliers = 0 if found is None else int(found.inliers.sum())
    if found is None or inliers < LEAST_INLIERS:
        return None
    metres, radians = FLOOR_METRES, np.radians(FLOOR_DEGREES)
    covariance = found.covariance + np.diag([metres] * 3 + [radians] * 3) ** 2
    shift = SCALE * found.world_from_camera.translation
    covariance[:3, :3] += np.outer(shift, shift)
    return base_relation(found.world_from_camera, covariance, then, now, inliers)


def base_relation(
    then_from_now: Transform,
    covariance: np.ndarray,
    then: DrivePoints,
    now: DrivePoints,
    inliers: int,
) -> Relation:
    """The relation of the vehicle from that of its camera; covariance: about the axes of then's."""
    axes = np.kron(np.eye(2), then.base_from_camera.rotation)
    told = then.base_from_camera @ then_from_now, axes @ covariance @ axes.T
    return Relation(*carried(*told, now.base_from_camera.inverse()), inliers)
