# SPDX-License-Identifier: Apache-2.0
"""Matches of a drive's images with images of the prebuilt map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Answer, Query


@dataclass(frozen=True, eq=False)
class MapMatch:
    """The map image that an image was matched with."""

    stamp_ns: int  # of the map image
    map_from_base: Transform  # the vehicle's pose at the map image
    score: float  # fine similarity
    spacing: float  # between map images [m]
    keyframe_from_base: PoseWithCovariance | None = None  # pose relative to it; None: unknown
    inliers: int = 0  # keypoints that agree with this pose


def map_match(localizer: Localizer, query: Query, answer: Answer) -> MapMatch | None:
    """The map image of an answer, as if this camera had taken it; None: unknown place."""
    record = answer.record
    if not answer.known or record.map_from_camera is None:
        return None
    map_from_base = record.map_from_camera @ answer.base_from_camera.inverse()
    return MapMatch(
        stamp_ns=record.stamp_ns,
        map_from_base=map_from_base,
        score=float(localizer.fine_scores(query, np.array([record.id]))[0]),
        spacing=answer.spacing,
        keyframe_from_base=relative_to(map_from_base, answer),
        inliers=answer.inliers,
    )


def relative_to(map_from_keyframe: Transform, answer: Answer) -> PoseWithCovariance | None:
    """`keyframe_from_base` of a sequence's answer or of keypoints'; None of a single image's."""
    estimated = answer.tracked or answer.inliers
    return answer.pose.transformed(map_from_keyframe.inverse()) if estimated else None
