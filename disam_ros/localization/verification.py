# SPDX-License-Identifier: Apache-2.0
"""Geometric verification: match keypoints, PnP (known depth) or essential matrix, inliers, pose.

The query's keypoints are matched with those of a candidate map image. Where the map knows their
depths, PnP gives the query's pose in metres, also between map images; else the essential matrix
gives it up to scale. Without intrinsics there is no pose, but the number of matches that fit one
fundamental matrix still distinguishes places. The constants were measured on validation drives
through the season town.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.config import VerifyConfig
from disam_ros.errors import ConfigError
from disam_ros.features.absolute_pose import (
    MIN_POINTS,
    epipolar_inliers,
    essential_pose,
    solve_pnp,
)
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.local_features import match, open_features
from disam_ros.files import file_sha256
from disam_ros.geometry import Transform
from disam_ros.mapping.keypoints import intrinsics
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.uncertainty import PoseWithCovariance

MAX_CANDIDATES = 10  # map images verified for one query, while the budget lasts
SURE = 0.99  # probability of a place from which verification cannot change the answer
MIN_INFORMATION = 0.1  # share of new evidence in an image, below which keypoints add nothing
PLACE_RADIUS = 10.0  # metres beyond which two candidates are different places
PIXEL_SIGMA = 0.5  # pixels, standard deviation of a keypoint at least
TOLERANCE = 3.0  # pixels, reprojection error of an inlier
EPIPOLAR_TOLERANCE = 1.5  # pixels off the epipolar line, of cameras without intrinsics
MIN_INLIERS = 12  # that a pose needs
# Standard deviation of a pose on top of its residuals' covariance: metres of the map's own poses,
# and metres over the squared number of inliers, as the more agree, the less wrong matches and
# correlated depth errors count.
FLOOR_M = 0.1
FLOORS = {"sift": 60.0, "orb": 1500.0, "xfeat": 600.0}
DEG_PER_M = 3.0  # of its rotation, for each of these metres
RATIO_PER_INLIER = 0.2  # log likelihood ratio of an inlier more than at any other place
MIN_RATIO, MAX_RATIO = -3.0, 3.0
MAX_RATIO_ALONE = 0.8  # where no other place was verified: houses repeat


@dataclass(frozen=True, eq=False)
class Verification:
    """The outcome for one candidate.

    row: of the map image. matches, inliers: how many keypoints match, and agree with the pose.
    map_from_camera: metric pose, None without depths or with too few inliers. row_from_camera: pose
    relative to the map image up to scale (translation of unit length), where depths are unknown.
    milliseconds: spent.
    """

    row: int
    matches: int
    inliers: int
    map_from_camera: PoseWithCovariance | None = None
    row_from_camera: Transform | None = None
    milliseconds: float = 0.0

    @property
    def inlier_ratio(self) -> float:
        """Inliers among the matches."""
        return self.inliers / max(1, self.matches)

    def map_from_base(self, base_from_camera: Transform) -> PoseWithCovariance | None:
        """The metric pose of the vehicle's base, None without one."""
        if self.map_from_camera is None:
            return None
        return self.map_from_camera.with_lever_arm(base_from_camera.inverse())


class Verifier:
    """Verifies candidates of one map. clock: seconds, for the budget.

    Raises MapError where the map has no keypoints, ConfigError where their detector is missing or
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
        header = place_map.header.keypoints
        assert header is not None
        self._kind, self._count = header.features, header.count
        self._features = open_features(self._kind, config.xfeat if self._kind == "xfeat" else "")
        self._require_weights(header.weights)

    def verify(
        self,
        image: NDArray[np.uint8],
        camera: str,
        rows: Sequence[int] | NDArray[np.int64],
        query_camera: Camera | None = None,
        budget_ms: float | None = None,
    ) -> list[Verification]:
        """Match an image (uint8 RGB [H, W, 3]) with map images, in the order of `rows`.

        camera: whose map images they are. query_camera: that of the image, for any image size;
        None: the map's; one that is not calibrated gives no poses. budget_ms: None: as configured;
        no candidate is begun that would end later if it took as long as the slowest before it.
        Raises ImageError, MapError.
        """
        start = self._clock()
        budget = self._config.budget_ms if budget_ms is None else budget_ms
        query = self._features.extract(image, self._count).seen_by(
            query_camera or intrinsics(self._map.header.cameras, camera), image
        )
        done: list[Verification] = []
        slowest = 0.0
        for row in rows:
            begun = self._clock()
            if 1e3 * (begun - start) + slowest >= budget:
                break
            found = self._compare(query, int(row))
            milliseconds = 1e3 * (self._clock() - begun)
            slowest = max(slowest, milliseconds)
            done.append(replace(found, milliseconds=milliseconds))
        return done

    def log_ratios(self, found: Sequence[Verification]) -> NDArray[np.float64]:
        """Log likelihood ratios [n] of the inliers at each candidate against elsewhere.

        Expects all candidates of one image. Rows of houses repeat, so that many keypoints agree
        with wrong places, too: the lead over the best of the other places counts.
        """
        inliers = np.array([item.inliers for item in found], float)
        places = self._map.poses[[item.row for item in found], :3]
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
        elsewhere = gaps > PLACE_RADIUS
        others = np.where(elsewhere, inliers, 0.0).max(1, initial=0.0)
        highest = np.where(elsewhere.any(1), MAX_RATIO, MAX_RATIO_ALONE)
        lead = RATIO_PER_INLIER * (inliers - others)
        ratios: NDArray[np.float64] = np.clip(lead, MIN_RATIO, highest)
        return ratios

    def _compare(self, query: Keypoints, row: int) -> Verification:
        known = self._map.keypoints(row)
        pairs = match(self._kind, query.descriptors, known.descriptors)
        here, there = query[pairs[:, 0]], known[pairs[:, 1]]
        if here.camera is None or there.camera is None:
            inliers = epipolar_inliers(here.pixels, there.pixels, EPIPOLAR_TOLERANCE)
            return Verification(row, len(pairs), int(inliers.sum()))
        metric = np.isfinite(there.depths)
        if metric.sum() >= MIN_POINTS:
            return self._metric_pose(here[metric], there[metric], row)
        return self._pose_up_to_scale(here, there, row)

    def _metric_pose(self, here: Keypoints, there: Keypoints, row: int) -> Verification:
        depths = there.depths[:, None].astype(np.float64)
        points = np.column_stack([there.bearings * depths, depths])
        sigma, tolerance = here.pixel_angle * PIXEL_SIGMA, here.pixel_angle * TOLERANCE
        found = solve_pnp(points, here.bearings, tolerance, sigma)
        inliers = 0 if found is None else int(found.inliers.sum())
        if found is None or inliers < MIN_INLIERS:
            return Verification(row, len(here), inliers)
        pose = found.world_from_camera.transformed(self._map_from_row(row))
        pose = replace(pose, covariance=pose.covariance + self._floor(inliers))
        return Verification(row, len(here), inliers, map_from_camera=pose)

    def _pose_up_to_scale(self, here: Keypoints, there: Keypoints, row: int) -> Verification:
        found = essential_pose(here.bearings, there.bearings, here.pixel_angle * TOLERANCE)
        inliers = 0 if found is None else int(found[1].sum())
        if found is None or inliers < MIN_INLIERS:
            return Verification(row, len(here), inliers)
        return Verification(row, len(here), inliers, row_from_camera=found[0])

    def _floor(self, inliers: int) -> NDArray[np.float64]:
        metres = np.hypot(FLOOR_M, FLOORS[self._kind] / inliers**2)
        sigmas = np.array([metres] * 3 + [np.radians(DEG_PER_M * metres)] * 3)
        return np.diag(sigmas**2)

    def _map_from_row(self, row: int) -> Transform:
        pose = self._map.poses[row]
        return Transform(pose[:3], pose[3:])

    def _require_weights(self, expected: str) -> None:
        if expected and file_sha256(Path(self._config.xfeat)) != expected:
            raise ConfigError(
                f"{self._config.xfeat} is not the file that detected the keypoints of "
                f"{self._map.directory}: its SHA-256 should be {expected[:12]}…"
            )


def worth_verifying(probability: float, information: float, config: VerifyConfig) -> bool:
    """Whether keypoints can change the answer. probability: of the likeliest place; information:
    share of the image's evidence that is not correlated with the images before."""
    if config.when != "unsure":
        return config.when == "always"
    return probability < SURE and information >= MIN_INFORMATION
