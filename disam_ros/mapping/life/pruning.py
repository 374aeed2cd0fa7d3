# SPDX-License-Identifier: Apache-2.0
"""Which images of a map can go: those that another one near by can stand for.

Images of one camera and condition are thinned to a net: in the order of their use, then of the
drive, an image stays if none that stays is nearer than a radius, 10° of heading counting as 1 m.
The radius is the least with which no more than the wanted share stays; so what goes is at most that
far from what stays. Likeness plays no part: where places look alike, all their images are needed.

What stays takes the mean of the descriptors of what goes beside it: a pruned map still resembles
the road between its images (docs/accuracy.md tells what it loses).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.errors import MapError
from disam_ros.mapping.place_map import PlaceMap

DEGREES = 10.0  # of heading that weigh as 1 m
ROUNDS = 40  # of the search for the radius
SHARED = 1.25  # times its distance to the nearest image that stays, within which others share it
NEAR = 3.0  # farther from what stays, an image is not taken into it [m]


def kept_rows(
    place_map: PlaceMap, keep: float, uses: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Rows of the images that stay, ascending.

    keep: share of the images of each camera and condition, 0 < keep ≤ 1. uses: how often each image
    was the right answer, [N]. Raises MapError for another share.
    """
    if not 0.0 < keep <= 1.0:
        raise MapError(f"expected a share of images to keep above 0 and up to 1, got {keep:g}")
    uses = np.zeros(len(place_map), np.int64) if uses is None else uses
    kept = []
    for rows in _groups(place_map):
        points, order = _points(place_map, rows), np.argsort(-uses[rows], kind="stable")
        kept.append(rows[_thinned(points, order, max(1, round(keep * len(rows))))])
    return np.sort(np.concatenate(kept))


def stood_for(place_map: PlaceMap, kept: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of the images whose mean each image that stays becomes, [n] lists.

    They are itself and those of its camera and condition that go and have no much nearer one, up to
    NEAR."""
    groups = [[row] for row in kept.tolist()]
    number = dict(zip(kept.tolist(), range(len(kept)), strict=True))
    for rows in _groups(place_map):
        points, stays = _points(place_map, rows), np.isin(rows, kept)
        tree, goes = cKDTree(points[stays]), np.flatnonzero(~stays)
        gaps = tree.query(points[goes])[0]
        near = tree.query_ball_point(points[goes], np.minimum(SHARED * gaps, NEAR))
        for row, indices in zip(rows[goes].tolist(), near, strict=True):
            for index in indices:
                groups[number[int(rows[stays][index])]].append(row)
    return [np.array(group, np.int64) for group in groups]


def uses_of(
    place_map: PlaceMap,
    frames: Iterable[tuple[int | None, float | None, float | None]],
    metres: float,
    degrees: float,
) -> NDArray[np.int64]:
    """How often each map image was the right answer, [N].

    frames: of an evaluation with this map: number of the matched image, errors [m] and [deg].
    metres, degrees: errors up to which an answer is right. Raises MapError for images that the map
    does not have.
    """
    uses = np.zeros(len(place_map), np.int64)
    for matched, error_m, error_deg in frames:
        if matched is None or error_m is None or error_deg is None:
            continue
        if not 0 <= matched < len(uses):
            raise MapError(
                f"the evaluation names map image {matched}, {place_map.directory} has {len(uses)}: "
                f"was it of this map?"
            )
        uses[matched] += error_m <= metres and error_deg <= degrees
    return uses


def _groups(place_map: PlaceMap) -> list[NDArray[np.int64]]:
    """Rows of each camera and condition."""
    domains = np.array([record.domain for record in place_map.records])
    return [
        np.flatnonzero((place_map.camera_of == camera) & (domains == domain))
        for camera in range(len(place_map.camera_names))
        for domain in np.unique(domains)
        if ((place_map.camera_of == camera) & (domains == domain)).any()
    ]


def _points(place_map: PlaceMap, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions and optical axes as points [n, 6] whose distances are those of the images [m]."""
    poses = place_map.poses[rows]
    axes = Rotation.from_quat(poses[:, 3:]).as_matrix()[:, :, 2]
    return np.hstack([poses[:, :3], axes * np.degrees(1.0) / DEGREES])


def _thinned(
    points: NDArray[np.float64], order: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """`count` indices of points [n, 6]: a net, and the points that are farthest from it."""
    if count >= len(points):
        return np.arange(len(points))
    tree = cKDTree(points)
    low, high = 0.0, float(np.linalg.norm(points.max(0) - points.min(0))) + 1.0
    kept = _net(tree, order, high)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        net = _net(tree, order, middle)
        if len(net) > count:
            low = middle
        else:
            high, kept = middle, net
        if len(net) == count:
            break
    gaps = cKDTree(points[kept]).query(points)[0]
    more = np.argsort(-gaps, kind="stable")[: count - len(kept)]
    return np.concatenate([kept, more])


def _net(tree: cKDTree, order: NDArray[np.int64], radius: float) -> NDArray[np.int64]:
    """Indices of points of which no two are within a radius, and all others are of one of them."""
    free = np.ones(tree.n, bool)
    kept = []
    for index in order.tolist():
        if free[index]:
            kept.append(index)
            free[tree.query_ball_point(tree.data[index], radius)] = False
    return np.array(kept, np.int64)
