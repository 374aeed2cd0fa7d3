# SPDX-License-Identifier: Apache-2.0
"""How repetitive a map is: inliers between images of different places.

Where houses or lamp posts repeat, many keypoints agree with a wrong place. A sample of map images
is compared with the most similar images of other places, as a query would be. Those are of the
farther half of the map: along a street, the same houses are in view for more than a hundred metres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.features.two_view import compare
from disam_ros.mapping.keypoints import keypoints_of
from disam_ros.mapping.rows import RowFile

APART = 30.0  # metres, at least, between images of different places
SAMPLES = 50  # map images that are compared
COMPARED = 20_000  # images that the most similar ones are chosen from, at most
SIMILAR = 3  # images of other places that each is compared with
QUANTILE = 0.9  # of the samples' largest numbers of inliers


def repetition(
    table: NDArray[np.void] | RowFile,
    rows: NDArray[np.int64],
    kind: str,
    poses: NDArray[np.float64],
    descriptors: NDArray[np.float32],
    camera: Camera | None,
) -> float | None:
    """Inliers that one in ten images of a camera has with the most similar image of another place.

    table: keypoints, of which `rows` [n] are the camera's; kind: the local features; poses:
    map_from_camera [n, 7]; descriptors: coarse [n, d]; camera: None without intrinsics. None where
    the images show one place only.
    """
    inliers = []
    unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True).clip(1e-12)
    for index in evenly(len(rows), SAMPLES):
        gaps = np.linalg.norm(poses[:, :3] - poses[index, :3], axis=1)
        others = np.flatnonzero(gaps > max(APART, float(np.median(gaps))))
        if not len(others):
            continue
        others = others[np.argsort(-(unit[others] @ unit[index]))[:SIMILAR]]
        query = keypoints_of(table[rows[index]], camera)
        views = (keypoints_of(table[row], camera) for row in rows[others])
        inliers.append(max(compare(kind, query, image).inliers for image in views))
    return float(np.quantile(inliers, QUANTILE)) if inliers else None


def evenly(length: int, count: int) -> NDArray[np.int64]:
    """At most `count` of so many indices, evenly spaced."""
    return np.unique(np.linspace(0, length - 1, count).astype(np.int64))
