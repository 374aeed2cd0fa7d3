# SPDX-License-Identifier: Apache-2.0
"""Which images of a map can go: those that another one near by can stand for.

The cost of an image is that of its cheapest kept neighbour of the same camera and condition: their
distance [m], with 10° of heading as 1 m, times their coarse dissimilarity. The cheapest image goes
first, then the costs of those that it stood for are taken anew (greedy). An image that was the
right answer in an evaluation costs as much more as it was asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.errors import MapError
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.projection import decode, unit

DEGREES = 10.0  # of heading that weigh as 1 m
NEIGHBOURS = 24  # that can stand for an image, at most
ALONE = 1e6  # cost of an image without any


def kept_rows(
    place_map: PlaceMap, keep: float, uses: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Rows of the images that stay, ascending.

    keep: share of the images of each camera and condition, 0 < keep ≤ 1. uses: how often each image
    was the right answer, [N]. Raises MapError for another share.
    """
    if not 0.0 < keep <= 1.0:
        raise MapError(f"expected a share of images to keep above 0 and up to 1, got {keep:g}")
    weights = np.ones(len(place_map)) if uses is None else 1.0 + np.asarray(uses, np.float64)
    kept: list[NDArray[np.int64]] = []
    for rows in _groups(place_map):
        gone = _cheapest(
            place_map, rows, weights[rows], len(rows) - max(1, round(keep * len(rows)))
        )
        kept.append(np.delete(rows, gone))
    return np.sort(np.concatenate(kept))


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


def _cheapest(
    place_map: PlaceMap,
    rows: NDArray[np.int64],
    weights: NDArray[np.float64],
    count: int,
) -> list[int]:
    """`count` of the rows' indices, in the order in which they go."""
    neighbours, costs = _neighbours(place_map, rows)
    left = np.ones(len(rows), bool)
    at = np.zeros(len(rows), int)  # of the cheapest neighbour that is left
    heap: list[tuple[float, int]] = []

    def push(index: int) -> None:
        while at[index] < neighbours.shape[1] and not left[neighbours[index, at[index]]]:
            at[index] += 1
        alone = at[index] >= neighbours.shape[1]
        cost = ALONE if alone else float(costs[index, at[index]])
        heapq.heappush(heap, (cost * weights[index], index))

    for index in range(len(rows)):
        push(index)
    gone: list[int] = []
    while len(gone) < count:
        _, index = heapq.heappop(heap)
        if not left[index]:
            continue
        if at[index] < neighbours.shape[1] and not left[neighbours[index, at[index]]]:
            push(index)  # what stood for it has gone since
            continue
        left[index] = False
        gone.append(index)
    return gone


def _neighbours(
    place_map: PlaceMap, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices of each image's neighbours by increasing cost, and these costs, [n, k] each."""
    poses = place_map.poses[rows]
    axes = Rotation.from_quat(poses[:, 3:]).as_matrix()[:, :, 2]  # the optical axis
    points = np.hstack([poses[:, :3], axes * np.degrees(1.0) / DEGREES])
    count = min(NEIGHBOURS + 1, len(rows))
    gaps, found = cKDTree(points).query(points, k=count)
    gaps, found = gaps.reshape(len(rows), count), found.reshape(len(rows), count)
    codes = unit(decode(place_map.coarse[rows], place_map.steps))
    alike = np.einsum("nd,nkd->nk", codes, codes[found]) if count > 1 else np.ones((len(rows), 1))
    costs = gaps * (1.0 - alike).clip(0.0)
    costs[found == np.arange(len(rows))[:, None]] = np.inf  # itself
    order = np.argsort(costs, axis=1, kind="stable")[:, : count - 1]
    return np.take_along_axis(found, order, 1), np.take_along_axis(costs, order, 1)
