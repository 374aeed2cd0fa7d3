# SPDX-License-Identifier: Apache-2.0
"""Two-view verification: match keypoints, estimate the pose robustly, count inliers.

Where the map knows depths, PnP gives the query's pose in metres; else the essential matrix gives it
up to scale. Without intrinsics there is no pose, but the number of matches that fit one fundamental
matrix still distinguishes places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.features.absolute_pose import (
    MIN_POINTS,
    Solution,
    epipolar_distances,
    epipolar_inliers,
    essential_pose,
    solve_pnp,
)
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.matching import match
from disam_ros.geometry import PoseWithCovariance, Transform

# Standard deviation of a keypoint, at least [pixels]: of SIFT and XFeat by the NEES of poses on
# KITTI and a rendered town; the others' are between theirs.
PIXEL_SIGMA = {"sift": 0.5, "orb": 1.0, "xfeat": 1.5, "aliked": 1.0}
TOLERANCE = 3.0  # pixels, reprojection error of an inlier
EPIPOLAR_TOLERANCE = 1.5  # pixels off the epipolar line, of cameras without intrinsics
DEPTH_SIGMA = 0.02  # of a map point's depth over the depth, standard deviation
MIN_INLIERS = 12  # that a pose needs
PLACE_RADIUS = 10.0  # metres beyond which two images show different places


@dataclass(frozen=True, eq=False)
class TwoView:
    """What two images share. "Here" is the query's camera, "there" the known image's."""

    matches: int  # keypoints that match
    inliers: int  # of these, those that agree with one pose
    there_from_here: PoseWithCovariance | None = None  # metric; None with fewer than MIN_INLIERS
    metric: int = 0  # inliers of known depth, which the metric pose is from
    direction: Transform | None = None  # pose with a translation of unit length, if not metric


def compare(features: str, query: Keypoints, known: Keypoints) -> TwoView:
    """Compares a query's keypoints with those of an image whose depths may be known. features: the
    local features that made both.

    The pose is by PnP where enough matches of known depth agree, else the essential matrix, or the
    fundamental matrix where a camera has no intrinsics. Matches without depth count as inliers
    where they fit the epipolar geometry of the pose, so that numbers of inliers are comparable.
    """
    pairs = match(features, query.descriptors, known.descriptors)
    keypoints_here, keypoints_there = query[pairs[:, 0]], known[pairs[:, 1]]
    if keypoints_here.camera is None or keypoints_there.camera is None:
        agree = epipolar_inliers(keypoints_here.pixels, keypoints_there.pixels, EPIPOLAR_TOLERANCE)
        return TwoView(len(pairs), int(agree.sum()))
    tolerance = keypoints_here.pixel_angle * TOLERANCE
    metric = np.isfinite(keypoints_there.depths)
    solution = None
    if metric.sum() >= MIN_POINTS:
        solution = _metric_pose(
            keypoints_here[metric], keypoints_there[metric], PIXEL_SIGMA[features]
        )
    if solution is not None:
        pose = solution.world_from_camera
        others = keypoints_here[~metric].bearings, keypoints_there[~metric].bearings
        agree = epipolar_distances(pose.pose, *others) <= tolerance
        count = int(solution.inliers.sum())
        return TwoView(len(pairs), count + int(agree.sum()), pose, count)
    essential = essential_pose(keypoints_here.bearings, keypoints_there.bearings, tolerance)
    inliers = 0 if essential is None else int(essential[1].sum())
    if essential is None or inliers < MIN_INLIERS:
        return TwoView(len(pairs), inliers)
    return TwoView(len(pairs), inliers, direction=essential[0])


def _metric_pose(
    keypoints_here: Keypoints, keypoints_there: Keypoints, pixels: float
) -> Solution | None:
    """Metric pose by PnP; None with fewer than MIN_INLIERS. pixels: deviation of a keypoint."""
    depths = keypoints_there.depths[:, None].astype(np.float64)
    points = np.column_stack([keypoints_there.bearings * depths, depths])
    sigma, tolerance = keypoints_here.pixel_angle * pixels, keypoints_here.pixel_angle * TOLERANCE
    solution = solve_pnp(points, keypoints_here.bearings, tolerance, sigma, DEPTH_SIGMA)
    return solution if solution is not None and solution.inliers.sum() >= MIN_INLIERS else None
