# SPDX-License-Identifier: Apache-2.0
"""Loop closures of real driving with itself: KITTI odometry 00, which comes back to a street.

The whole drive passes the loop closer, with the odometry of the maps' rows and with none. A
keyframe of LOOP is to be closed if an earlier image within NEAR lies in FIRST_PASS. The ground
truth of the two passes differs by 0.9 m, the same all along: errors are given with it and less
their median vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.accuracy.drives import frame_of
from benchmark.single_images import describe
from benchmark.truth import bases
from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.sources import PosedImage
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.slam.keyframe_depths import View
from disam_ros.slam.loop_closure import LoopCloser
from disam_ros.slam.loop_closure_message import LoopClosure

LOOP, FIRST_PASS = range(1564, 1642), range(122, 197)  # frames
NEAR = 5.0  # metres
RIGHT = 5.0  # metres between the two places of a right loop closure


@dataclass
class _Run:
    """A loop closer and its loop closures."""

    closer: LoopCloser
    closures: list[LoopClosure]


def loop_figures(
    localizer: Localizer, images: Sequence[PosedImage], odometry: Sequence[Transform]
) -> dict[str, dict[str, float]]:
    """By key of the page: keyframes to be closed; closed; wrong loop closures; and with odometry
    the errors [m] of the relative poses.

    images: of the whole drive; odometry: odom_from_base of each.
    """
    camera = localizer.map.main_camera()
    lens = localizer.map.header.cameras[camera]
    measured, none = (_Run(LoopCloser(LoopClosureConfig()), []) for _ in range(2))
    for item, pose in zip(images, odometry, strict=True):
        frame, stamp_ns = frame_of(item, camera), item.record.stamp_ns
        query = describe(localizer, Frame(frame.image, camera))
        image = query.coarse, query.fine, View(frame.image, lens)
        for run, reading in ((measured, Reading(pose, 0.0, 0)), (none, None)):
            run.closures += run.closer.add(stamp_ns, reading, *image)
    records = [item.record for item in images]
    stamps_ns = (record.stamp_ns for record in records)
    truth = dict(zip(stamps_ns, bases(records, lens), strict=True))
    return {
        "loop": _keyframes(measured, truth) | _errors(measured.closures, truth),
        "loop_without_odometry": _keyframes(none, truth),
    }


def _keyframes(run: _Run, truth: dict[int, Transform]) -> dict[str, float]:
    """How many keyframes are to be closed, were, and by wrong loop closures."""
    stamps_ns = list(truth)
    first = np.stack([truth[stamps_ns[row]].translation for row in FIRST_PASS])
    keyframes = {
        stamp_ns
        for stamp_ns in {stamps_ns[row] for row in LOOP} & set(run.closer.stamps_ns())
        if np.linalg.norm(first - truth[stamp_ns].translation, axis=1).min() <= NEAR
    }
    gaps = [np.linalg.norm(_motion(closure, truth).translation) for closure in run.closures]
    return {
        "keyframes": len(keyframes),
        "closed": len(keyframes & {closure.stamp_ns for closure in run.closures}),
        "wrong": int(sum(gap > RIGHT for gap in gaps)),
    }


def _errors(closures: Sequence[LoopClosure], truth: dict[int, Transform]) -> dict[str, float]:
    """Errors of the translations, in the axes of the ground truth."""
    gaps = np.array(
        [
            truth[closure.keyframe_stamp_ns].rotation
            @ (_motion(closure, truth).translation - closure.keyframe_from_base.pose.translation)
            for closure in closures
        ]
    ).reshape(-1, 3)
    return {
        "median": float(np.median(np.linalg.norm(gaps, axis=1))),
        "median_centred": float(np.median(np.linalg.norm(gaps - np.median(gaps, axis=0), axis=1))),
    }


def _motion(closure: LoopClosure, truth: dict[int, Transform]) -> Transform:
    """True keyframe_from_base."""
    return truth[closure.keyframe_stamp_ns].inverse() @ truth[closure.stamp_ns]
