# SPDX-License-Identifier: Apache-2.0
"""Geometric verification: match keypoints, PnP (known depth) or essential matrix, inliers, pose.

The query's keypoints are compared with those of a candidate map image (features/two_view.py). The
inliers are evidence of the place (features/inlier_evidence.py), and where the map knows depths they
give the query's pose in metres, also between map images. A single image's candidates are re-ranked
by them; of a sequence they update the belief.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import VerifyConfig
from disam_ros.errors import ConfigError
from disam_ros.features.inlier_evidence import (
    GAIN,
    MAP_ERRORS,
    MODELS,
    InlierModel,
    PoseErrors,
)
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.local_features import open_features, weights_of
from disam_ros.features.two_view import PLACE_RADIUS, compare
from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.localization.query import Candidates, Frame
from disam_ros.mapping.keypoints import SAME_WEIGHTS, intrinsics
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.similarity import TEMPERATURE

# Map images compared with one query, and those that it is compared with while none of them has
# STRONG inliers. Measured on KITTI, with a map image every 1.6, 3.1 and 6.2 m.
FIRST_CANDIDATES, MAX_CANDIDATES = 3, 6
SURE = 0.99  # probability of a place from which verification cannot change the answer
CONFLICT = 22.5  # chi-squared quantile 0.999 of six degrees of freedom
MANY = 12  # inliers of known depth that decide between stretches of one place, and
STRONG = GAIN * np.log(4.0)  # their log-weight: three times the inliers that other places have
# Radius of the map about its images [m], at least, and in spacings of the map.
ON_MAP, ON_MAP_STEPS = 2.0, 1.0
MIN_INFORMATION = 0.1  # share of new evidence in an image, below which keypoints add nothing


@dataclass(frozen=True, eq=False)
class Verification:
    """The outcome of the verification of one map image."""

    row: int  # of the map image
    matches: int  # keypoints that match
    inliers: int  # keypoints that agree with the pose
    map_from_camera: PoseWithCovariance | None = None  # metric; None without depths or inliers
    metric: int = 0  # inliers of known depth
    scaled: bool = False  # whether the map image knows depths, so that its place has a metric pose
    weight: float = 0.0  # log-weight of the inliers among the candidates

    def map_from_base(self, base_from_camera: Transform) -> PoseWithCovariance | None:
        """The metric pose of the vehicle's base, None without one."""
        if self.map_from_camera is None:
            return None
        return self.map_from_camera.with_lever_arm(base_from_camera.inverse())


class Verifier:
    """Verifies candidates of one map. device: of learned features. errors: of poses, by
    local features; of those that are not among them, MAP_ERRORS.

    Raises MapError where the map has no keypoints, ConfigError where their detector is missing or
    another.
    """

    def __init__(
        self,
        place_map: PlaceMap,
        device: str = "cpu",
        errors: Mapping[str, PoseErrors] | None = None,
    ) -> None:
        self._map = place_map
        place_map.keypoints(0)  # raises MapError
        header = place_map.header.keypoints
        assert header is not None
        self._count, self._repetition = header.count, header.repetition
        self.features, self._detector = header.features, open_features(header.features, device)
        weights = weights_of(header.features)
        if SAME_WEIGHTS.get(header.weights, header.weights) != weights:
            raise ConfigError(
                f"the keypoints of {place_map.directory} were detected by other weights of "
                f"'{header.features}' ({header.weights[:12]}…) than those installed "
                f"({weights[:12]}…): build the map again"
            )
        self._errors = (errors or {}).get(self.features, MAP_ERRORS)

    @property
    def model(self) -> InlierModel:
        """What inliers are worth as evidence."""
        return MODELS[self.features]

    def verify(self, view: Frame, rows: NDArray[np.int64]) -> list[Verification]:
        """Matches the keypoints of a view with these map images, in their order: with
        FIRST_CANDIDATES, and with others while none has STRONG inliers.

        A camera that is not calibrated gives no poses; without one the map's is used. Keypoints
        that the lens of a warped view did not see are left out. Raises ImageError, MapError.
        """
        if not len(rows):
            return []
        camera = view.lens or intrinsics(self._map.header.cameras, view.camera)
        query = self._detector.extract(view.image, self._count).seen_by(camera, view.image)
        query = query if view.warp is None else query[view.warp.shows(query.pixels)]
        results: list[Verification] = []
        for row in rows:
            agrees = any(item.weight >= STRONG for item in results)
            if agrees and len(results) >= FIRST_CANDIDATES:
                break
            results.append(self._compare(query, int(row)))
        return results

    def log_ratios(self, verified: Sequence[Verification], domain: str) -> NDArray[np.float64]:
        """Log likelihood ratios [n] of the inliers at each candidate against elsewhere, on the map
        and off it. domain: of the image.

        Expects all candidates of one image: the lead over the best of the other places counts. Few
        keypoints of another domain match, as by night, so that those are not against a place. A
        pose that is not on the map, though its images are in view, is no evidence of a place there,
        nor are far points that agree without a pose.
        """
        inliers = np.array([item.inliers for item in verified], float)
        places = self._map.poses[[item.row for item in verified], :3]
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
        elsewhere = gaps > PLACE_RADIUS
        others = np.where(elsewhere, inliers, 0.0).max(1, initial=0.0)
        ratios = self.model.log_ratio(inliers, others, self._repetition)
        alike = [self._map.records[item.row].domain == domain for item in verified]
        on_map = [self._is_on_map(item) for item in verified]
        return ratios.clip(np.where(alike, -np.inf, 0.0), np.where(on_map, np.inf, 0.0))

    def _is_on_map(self, item: Verification) -> bool:
        """Whether a metric pose is near a map image; True where none can be had."""
        if item.map_from_camera is None:
            return not item.scaled
        position = item.map_from_camera.pose.translation
        radius = max(ON_MAP, ON_MAP_STEPS * self._map.spacing())
        positions = self._map.poses[:, :3]
        around = positions[np.abs(positions[:, 0] - position[0]) <= radius]  # few of a large map
        return bool((np.linalg.norm(around - position, axis=1) <= radius).any())

    def _compare(self, query: Keypoints, row: int) -> Verification:
        mapped = self._map.keypoints(row)
        match = compare(self.features, query, mapped)
        pose = match.there_from_here
        if pose is not None:
            distance = float(np.linalg.norm(pose.pose.translation))
            pose = pose.transformed(self._map_from_row(row))
            covariance = self._errors.covariance(pose.covariance, match.metric, distance)
            pose = replace(pose, covariance=covariance)
        return Verification(
            row=row,
            matches=match.matches,
            inliers=match.inliers,
            map_from_camera=pose,
            metric=match.metric,
            scaled=query.camera is not None and bool(np.isfinite(mapped.depths).any()),
            weight=self.model.log_weight(match.inliers, self._repetition),
        )

    def _map_from_row(self, row: int) -> Transform:
        pose = self._map.poses[row]
        return Transform(pose[:3], pose[3:])


def with_inliers(candidates: Candidates, verified: Sequence[Verification]) -> Candidates:
    """Re-ranks candidates of an image by their scores with those of the keypoints."""
    weights = {item.row: TEMPERATURE * item.weight for item in verified}
    keypoints = np.array([weights.get(row, 0.0) for row in candidates.rows.tolist()])
    return replace(candidates, keypoints=keypoints).sorted() if weights else candidates


def fuse_verified(
    pose: PoseWithCovariance, base_from_camera: Transform, verified: Sequence[Verification]
) -> tuple[PoseWithCovariance, int]:
    """The pose fused with the metric pose of most inliers that does not contradict it.

    Returns it and the number of inliers; 0 where none fits. Where all contradict it, the pose of
    most inliers stands alone if it has MANY of known depth, a STRONG weight, and is of the same
    place: the view had chosen the wrong stretch of it.
    """
    ordered = sorted(verified, key=lambda item: -item.inliers)
    metric = [(item, item.map_from_base(base_from_camera)) for item in ordered]
    solved = [(item, solution) for item, solution in metric if solution is not None]
    for item, solution in solved:
        fused, distance = pose.fuse(solution)
        if distance <= CONFLICT:
            return fused, item.inliers
    for item, solution in solved[:1]:
        apart = np.linalg.norm(solution.pose.translation - pose.pose.translation)
        if item.metric >= MANY and item.weight >= STRONG and apart <= PLACE_RADIUS:
            return solution, item.inliers
    return pose, 0


def place_ratio(
    candidates: Candidates, verified: Sequence[Verification], ratios: NDArray[np.float64]
) -> float:
    """Log likelihood ratio of the first candidate's place: the largest of its verified images', 0
    without one.

    ratios: of the verified map images [n].
    """
    places = candidates.place_map.poses[[item.row for item in verified], :3]
    near = np.linalg.norm(places - candidates.positions[0], axis=1) <= PLACE_RADIUS
    return float(ratios[near].max()) if near.any() else 0.0


def worth_verifying(probability: float, information: float, config: VerifyConfig) -> bool:
    """Whether keypoints can change the answer. probability: of the likeliest place; information:
    share of the image's evidence that is not correlated with the images before, 1 for a single
    image."""
    if config.when != "unsure":
        return config.when == "always"
    return probability < SURE and information >= MIN_INFORMATION
