# SPDX-License-Identifier: Apache-2.0
"""Cameras of a like view made one, where a reconstruction has one for each image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from disam_ros.camera import Camera, same_shape, same_view

logger = logging.getLogger(__name__)

LIKE_DEG = 2.0  # largest angle between rays of cameras that become one
LIKE_FOCAL = 0.1  # largest difference of their focal lengths, relative


def merge_alike(cameras: Sequence[Camera], where: str) -> list[Camera]:
    """Give each image [N] the median camera of those with its lens model and a like view.

    cameras: of the images. where: names them in the log, which has a line for every group.
    """
    counts = Counter(cameras)
    merged: dict[Camera, Camera] = {}
    waiting = sorted(counts, key=lambda camera: camera.fx / camera.width)
    while waiting:
        middle = waiting[len(waiting) // 2]
        group = [camera for camera in waiting if camera == middle or _alike(camera, middle)]
        median = _median(group, [counts[camera] for camera in group])
        merged |= dict.fromkeys(group, median)
        waiting = [camera for camera in waiting if camera not in merged]
        if len(group) > 1 and median.calibrated:
            focal = [camera.fx * median.width / camera.width for camera in group]
            logger.info(
                "%s: %d cameras of a like view are one, of a focal length of %.1f pixels, theirs "
                "differ by %.2f %%",
                where,
                len(group),
                median.fx,
                100 * np.ptp(focal) / median.fx,
            )
    return [merged[camera] for camera in cameras]


def name_cameras(cameras: Sequence[Camera]) -> dict[Camera, str]:
    """Name different cameras: the only one front, several by their numbers, the commonest first."""
    distinct = [camera for camera, _ in Counter(cameras).most_common()]
    if len(distinct) == 1:
        return {distinct[0]: "front"}
    return {camera: f"camera{number}" for number, camera in enumerate(distinct, 1)}


def _alike(camera: Camera, other: Camera) -> bool:
    """Whether images of two cameras show the same, each scaled to the other's size."""
    sizes = (camera.width, camera.height), (other.width, other.height)
    if camera.model != other.model or not same_shape(*sizes):
        return False
    if not (camera.calibrated and other.calibrated):
        return camera.calibrated == other.calibrated
    zoom = (camera.fx / camera.width) / (other.fx / other.width)
    return abs(zoom - 1.0) <= LIKE_FOCAL and same_view(camera, other, LIKE_DEG)


def _median(cameras: Sequence[Camera], counts: Sequence[int]) -> Camera:
    """The camera with the median of all intrinsics, of the commonest size."""
    if len(cameras) == 1:
        return cameras[0]
    commonest = cameras[int(np.argmax(counts))]
    width, height = commonest.width, commonest.height
    if not commonest.calibrated:
        return commonest
    scaled = [camera.resized(width, height) for camera in cameras]
    fx, fy, cx, cy = (
        float(np.median(np.repeat([getattr(camera, name) for camera in scaled], counts)))
        for name in ("fx", "fy", "cx", "cy")
    )
    longest = max(len(camera.distortion) for camera in scaled)
    bent = np.zeros((len(scaled), longest))
    for row, camera in zip(bent, scaled, strict=True):
        row[: len(camera.distortion)] = camera.distortion
    distortion = tuple(np.median(np.repeat(bent, counts, axis=0), axis=0).tolist())
    return replace(
        commonest, fx=fx, fy=fy, cx=cx, cy=cy, distortion=distortion if any(distortion) else ()
    )
