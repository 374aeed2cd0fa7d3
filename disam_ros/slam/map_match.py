# SPDX-License-Identifier: Apache-2.0
"""Matches of a drive's images with images of the prebuilt map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.result import Localization
from disam_ros.uncertainty import PoseWithCovariance


@dataclass(frozen=True, eq=False)
class MapMatch:
    """The map image that an image was matched with.

    stamp_ns, map_from_base: of the map image. spacing: metres between map images.
    keyframe_from_base: pose relative to it, None where none was estimated; inliers: keypoints that
    agree with it.
    """

    stamp_ns: int
    map_from_base: Transform
    score: float
    spacing: float
    keyframe_from_base: PoseWithCovariance | None = None
    inliers: int = 0


def map_match(
    localizer: Localizer, found: Localization, base_from_camera: Transform
) -> MapMatch | None:
    """The map image of an answer, as if this camera had taken it; None: unknown place."""
    if found.map_from_camera is None:
        return None
    record = found.record
    map_from_base = found.map_from_camera @ base_from_camera.inverse()
    return MapMatch(
        stamp_ns=record.stamp_ns,
        map_from_base=map_from_base,
        score=float(localizer.fine_scores(found, np.array([record.id]))[0]),
        spacing=found.spacing,
        keyframe_from_base=relative_to(map_from_base, found, base_from_camera),
        inliers=0 if found.estimate is None else found.estimate.inliers,
    )


def relative_to(
    map_from_keyframe: Transform, found: Localization, base_from_camera: Transform
) -> PoseWithCovariance | None:
    """`keyframe_from_base` of a sequence's estimate; None for a single image's answer."""
    if found.estimate is None:
        return None
    map_from_base = found.map_from_base(base_from_camera)
    answer = PoseWithCovariance(map_from_base, found.estimate.covariance)
    return answer.transformed(map_from_keyframe.inverse())
