# SPDX-License-Identifier: Apache-2.0
"""Loop closures of real driving with itself: KITTI odometry 00, which comes back to a street.

The whole drive passes the loop closer with the odometry of the maps' rows. A keyframe of LOOP is to
be closed if an earlier image within NEAR lies in FIRST_PASS. The ground truth of the two passes
differs by 0.9 m, the same all along: errors are given with it and less their median vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.accuracy.drives import frame_of
from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.sources import PosedImage
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.slam.keyframe_depths import View
from disam_ros.slam.loop_closure import LoopCloser

LOOP, FIRST_PASS = range(1564, 1642), range(122, 197)  # frames
NEAR = 5.0  # metres
RIGHT = 5.0  # metres between the two places of a right loop closure


def loop_figures(
    localizer: Localizer, images: Sequence[PosedImage], odometry: Sequence[Transform]
) -> dict[str, float]:
    """keyframes: to be closed; closed, wrong: loop closures; errors [m] of their relative poses.

    images: of the whole drive; odometry: odom_from_base of each.
    """
    camera = localizer.only_camera()
    lens = localizer.map.header.cameras[camera]
    truth = [item.record.map_from_camera @ lens.base_from_camera.inverse() for item in images]
    row_of = {item.record.stamp_ns: row for row, item in enumerate(images)}
    closer, closed, errors, wrong = LoopCloser(LoopClosureConfig()), set(), [], 0
    for row, item in enumerate(images):
        frame, stamp_ns = frame_of(item, camera), item.record.stamp_ns
        query = localizer.query(frame.image)
        view = View(frame.image, lens)
        features = query.coarse, query.fine.cpu().numpy()
        for closure in closer.add(stamp_ns, odometry[row], *features, view):
            then = row_of[closure.keyframe_stamp_ns]
            true = truth[then].inverse() @ truth[row]
            wrong += int(np.linalg.norm(true.translation) > RIGHT)
            error = true.translation - closure.keyframe_from_base.pose.translation
            errors.append(truth[then].rotation @ error)
            closed.add(row)
    first = np.stack([truth[row].translation for row in FIRST_PASS])
    wanted = {
        row
        for row in (row_of[stamp_ns] for stamp_ns in closer.stamps_ns())
        if row in LOOP and np.linalg.norm(first - truth[row].translation, axis=1).min() <= NEAR
    }
    gaps = np.array(errors).reshape(-1, 3)
    return {
        "keyframes": len(wanted),
        "closed": len(wanted & closed),
        "wrong": wrong,
        "median": float(np.median(np.linalg.norm(gaps, axis=1))),
        "median_centred": float(np.median(np.linalg.norm(gaps - np.median(gaps, axis=0), axis=1))),
    }
