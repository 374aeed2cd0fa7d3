# SPDX-License-Identifier: Apache-2.0
"""Do an image and a map image show the same points from two poses? If so, where was the camera?

Points of the query are matched with those that the map keeps of a candidate. Where the map knows
their depths, the query's pose follows in metres, also between map images; else only how it is
turned and in which direction it lies. Without intrinsics no pose follows, but how many points agree
with one rigid scene tells places apart all the same. The constants were measured on validation
drives through the season town.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from disam_ros.camera import Camera, directions
from disam_ros.config import VerifyConfig
from disam_ros.errors import ConfigError
from disam_ros.features.absolute_pose import (
    LEAST_POINTS,
    agreeing_points,
    pose_from_points,
    turn_from_views,
)
from disam_ros.features.local_features import LONGEST, match, open_features
from disam_ros.files import file_sha256
from disam_ros.geometry import Transform
from disam_ros.mapping.keypoints import MapKeypoints, intrinsics
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.uncertainty import carried

NOISE = 0.5  # pixels, standard deviation of a point at least
TOLERANCE = 3.0  # pixels within which a point agrees with a pose
EPIPOLAR = 1.5  # pixels off the epipolar line, likewise, of cameras without intrinsics
LEAST_INLIERS = 12  # points that must agree before a pose is believed
# Standard deviations of a pose besides what its points leave open: metres of a map's own poses, and
# metres over the square of the points' number, as the more agree, the less wrong matches and depths
# that err alike count.
FLOOR_M = 0.1
FLOORS = {"sift": 60.0, "orb": 1500.0, "xfeat": 600.0}
DEG_PER_M = 3.0  # of its rotation, for each of these metres
RATIO_PER_INLIER = 0.2  # log likelihood ratio of a point more than in any other place
LOWEST_RATIO, HIGHEST_RATIO = -3.0, 3.0
LEAST_NEW = 0.1  # share of an image's evidence below which points would count for next to nothing
HIGHEST_ALONE = 0.8  # where no other place was verified: houses may be alike


@dataclass(frozen=True)
class Verification:
    """What became of a candidate.

    row: of the map image. matches, inliers: points that resemble each other, and that agree with
    the pose. map_from_camera: None where too few do. metric: whether its translation was seen;
    else it is the map image's, and `direction` (unit vector [3], map axes) points from there to the
    query. covariance: [6, 6] of a metric pose, metres of the camera's centre, then radians, about
    the map's axes. milliseconds: what it took.
    """

    row: int
    matches: int
    inliers: int
    map_from_camera: Transform | None = None
    metric: bool = False
    direction: np.ndarray | None = None
    covariance: np.ndarray | None = None
    milliseconds: float = 0.0

    @property
    def share(self) -> float:
        """Inliers among the matches."""
        return self.inliers / max(1, self.matches)

    def of_base(self, base_from_camera: Transform) -> tuple[Transform, np.ndarray]:
        """map_from_base of a metric pose and its covariance [6, 6], of the base's origin."""
        return carried(self.map_from_camera, self.covariance, base_from_camera.inverse())


@dataclass(frozen=True)
class _Query:
    """Points of a query: descriptors [K, D], pixels [K, 2], and, where intrinsics are known, view
    directions [K, 2] and `pixel`, the angle of one at which they were sought."""

    descriptors: np.ndarray
    points: np.ndarray
    views: np.ndarray | None = None
    pixel: float = 0.0


class Verifier:
    """Verifies candidates of one map. clock: seconds, for the budget.

    Raises MapError where the map has no keypoints, ConfigError where what found them is missing or
    another.
    """

    def __init__(
        self,
        place_map: PlaceMap,
        config: VerifyConfig,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._map, self._config, self._clock = place_map, config, clock
        place_map.keypoints(0)  # raises MapError
        self._kind = place_map.header.keypoints.features
        self._features = open_features(self._kind, config.xfeat if self._kind == "xfeat" else "")
        self._require_weights(place_map.header.keypoints.weights)

    def verify(
        self,
        image: np.ndarray,
        camera: str,
        rows: Sequence[int],
        query_camera: Camera | None = None,
        budget_ms: float | None = None,
    ) -> list[Verification]:
        """Compare an image (uint8 RGB [H, W, 3]) with map images, in the order of `rows`.

        camera: whose map images they are. query_camera: that of the image, whatever its size; None:
        the same camera; one that is not calibrated gives no poses. budget_ms: None: as configured;
        no candidate is begun that would end later if it took as long as the slowest before it.
        Raises ImageError, MapError.
        """
        start = self._clock()
        budget = self._config.budget_ms if budget_ms is None else budget_ms
        of_map = intrinsics(self._map.header.cameras, camera)
        query = self._seen(image, of_map if query_camera is None else query_camera)
        done: list[Verification] = []
        slowest = 0.0
        for row in rows:
            begun = self._clock()
            if 1e3 * (begun - start) + slowest >= budget:
                break
            found = self._compare(query, int(row), of_map)
            milliseconds = 1e3 * (self._clock() - begun)
            slowest = max(slowest, milliseconds)
            done.append(replace(found, milliseconds=milliseconds))
        return done

    def log_ratios(self, found: Sequence[Verification]) -> np.ndarray:
        """How much likelier what was seen is at each candidate than elsewhere, logarithms [n].

        All candidates of one image belong in here. Rows of houses repeat, so that many points agree
        with wrong places, too: what counts is how many more than in the best of the other places.
        """
        inliers = np.array([item.inliers for item in found], float)
        places = self._map.poses[[item.row for item in found], :3]
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
        elsewhere = gaps > self._config.radius
        others = np.where(elsewhere, inliers, 0.0).max(1, initial=0.0)
        highest = np.where(elsewhere.any(1), HIGHEST_RATIO, HIGHEST_ALONE)
        return np.clip(RATIO_PER_INLIER * (inliers - others), LOWEST_RATIO, highest)

    def _seen(self, image: np.ndarray, camera: Camera | None) -> _Query:
        found = self._features.extract(image, self._config.points)
        if camera is None or not camera.calibrated:
            return _Query(found.descriptors, found.points)
        camera = camera.resized(image.shape[1], image.shape[0])
        shrunk = max(1.0, max(image.shape[:2]) / LONGEST)
        views = directions(camera, found.points)
        return _Query(found.descriptors, found.points, views, shrunk / min(camera.fx, camera.fy))

    def _compare(self, query: _Query, row: int, camera: Camera | None) -> Verification:
        known = self._map.keypoints(row)
        pairs = match(self._kind, query.descriptors, known.descriptors)
        if query.views is None or camera is None:
            here, there = query.points[pairs[:, 0]], known.points[pairs[:, 1]]
            return Verification(row, len(pairs), int(agreeing_points(here, there, EPIPOLAR).sum()))
        metric = np.isfinite(known.depths[pairs[:, 1]])
        if metric.sum() >= LEAST_POINTS:
            return self._pose(query, row, known, pairs[metric], camera)
        return self._turn(query, row, known, pairs, camera)

    def _pose(
        self, query: _Query, row: int, known: MapKeypoints, pairs: np.ndarray, camera: Camera
    ) -> Verification:
        views = directions(camera, known.points[pairs[:, 1]])
        depths = known.depths[pairs[:, 1], None].astype(np.float64)
        points = np.column_stack([views * depths, depths])
        noise, tolerance = query.pixel * NOISE, query.pixel * TOLERANCE
        found = pose_from_points(points, query.views[pairs[:, 0]], tolerance, noise)
        inliers = 0 if found is None else int(found.inliers.sum())
        if found is None or inliers < LEAST_INLIERS:
            return Verification(row, len(pairs), inliers)
        map_from_row = self._map_from_row(row)
        axes = np.kron(np.eye(2), map_from_row.rotation)
        return Verification(
            row,
            len(pairs),
            inliers,
            map_from_camera=map_from_row @ found.world_from_camera,
            metric=True,
            covariance=axes @ found.covariance @ axes.T + self._floor(inliers),
        )

    def _turn(
        self, query: _Query, row: int, known: MapKeypoints, pairs: np.ndarray, camera: Camera
    ) -> Verification:
        views = directions(camera, known.points[pairs[:, 1]])
        tolerance = query.pixel * TOLERANCE
        found = turn_from_views(query.views[pairs[:, 0]], views, tolerance)
        inliers = 0 if found is None else int(found[1].sum())
        if found is None or inliers < LEAST_INLIERS:
            return Verification(row, len(pairs), inliers)
        map_from_row, row_from_query = self._map_from_row(row), found[0]
        turned = map_from_row.rotation @ row_from_query.rotation
        return Verification(
            row,
            len(pairs),
            inliers,
            map_from_camera=Transform.from_rotation(map_from_row.translation, turned),
            direction=map_from_row.rotation @ row_from_query.translation,
        )

    def _floor(self, inliers: int) -> np.ndarray:
        metres = np.hypot(FLOOR_M, FLOORS[self._kind] / inliers**2)
        return np.diag([metres] * 3 + [np.radians(DEG_PER_M * metres)] * 3) ** 2

    def _map_from_row(self, row: int) -> Transform:
        pose = self._map.poses[row]
        return Transform(pose[:3], pose[3:])

    def _require_weights(self, expected: str) -> None:
        if expected and file_sha256(Path(self._config.xfeat)) != expected:
            raise ConfigError(
                f"{self._config.xfeat} is not the file that found the points of "
                f"{self._map.directory}: its SHA-256 should be {expected[:12]}…"
            )


def worth_verifying(probability: float, new: float, config: VerifyConfig) -> bool:
    """Whether points can change what is answered. probability: of the likeliest place; new: share
    of the image's evidence that no image before has given."""
    if config.when != "unsure":
        return config.when == "always"
    return probability < config.sure and new >= LEAST_NEW
