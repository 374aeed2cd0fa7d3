# SPDX-License-Identifier: Apache-2.0
"""The street network and the loop a vehicle drives through it. Metres, map frame (ENU)."""

from __future__ import annotations

import numpy as np

from season_town.arrays import Points

GRID = 4  # street nodes a side
SPACING = 60.0  # metres between nodes
ROAD_HALF = 4.2
SIDEWALK_OUTER = 6.5
LANE_OFFSET = 1.5  # lane centre right of the road centre
STEP = 0.25  # between points of a lane [m]
CORNER_TRIM = 9.0
# A closed walk over neighbouring grid nodes with many turns.
LOOP = (
    *((0, 0), (1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (3, 1)),
    *((3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1)),
)


def place_nodes(rng: np.random.Generator) -> Points:
    """Draws the nodes of the street network, [GRID, GRID, 2]."""
    i, j = np.meshgrid(np.arange(GRID), np.arange(GRID), indexing="ij")
    nodes = (np.stack([i, j], -1) - (GRID - 1) / 2) * SPACING
    return nodes + rng.uniform(-5.5, 5.5, nodes.shape)


def turned_loop(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Returns the loop turned and mirrored at random."""
    loop = np.array(LOOP)
    last = GRID - 1
    for _ in range(rng.integers(4)):
        loop = np.stack([last - loop[:, 1], loop[:, 0]], 1)
    if rng.random() < 0.5:
        loop = loop[::-1]
    return [(int(i), int(j)) for i, j in loop]


def choose_streets(
    rng: np.random.Generator, nodes: Points, loop: list[tuple[int, int]]
) -> list[tuple[Points, Points]]:
    """Draws the streets: those of the loop and half of the other links between neighbours."""
    driven = {frozenset(pair) for pair in zip(loop, loop[1:] + loop[:1], strict=True)}
    streets = []
    for i in range(GRID):
        for j in range(GRID):
            for other in ((i + 1, j), (i, j + 1)):
                if max(other) >= GRID:
                    continue
                keep = rng.random() < 0.5
                if frozenset(((i, j), other)) in driven or keep:
                    streets.append((nodes[i, j], nodes[other]))
    return streets


def lane_centre(corners: Points) -> Points:
    """Returns the closed lane centre [N, 2], corners rounded, a point every STEP."""
    pieces = []
    for before, at, after in zip(
        np.roll(corners, 1, 0), corners, np.roll(corners, -1, 0), strict=True
    ):
        start = at + CORNER_TRIM * unit(before - at)
        end = at + CORNER_TRIM * unit(after - at)
        t = np.linspace(0, 1, 60)[:, None]
        pieces.append((1 - t) ** 2 * start + 2 * t * (1 - t) * at + t**2 * end)
    centre = resample(np.vstack([*pieces, pieces[0][:1]]), STEP)[:-1]
    return _beside(centre, LANE_OFFSET)


def oncoming_lane(lane: Points, start: float) -> Points:
    """Returns the other lane [N, 2] of a closed lane's road, in its direction of travel.

    start: distance [m] along the lane, beside which the other one begins.
    """
    other = _beside(lane, -2 * LANE_OFFSET)[::-1]
    steps = np.linalg.norm(np.diff(lane, axis=0), axis=1)
    beside = lane[int(np.searchsorted(np.cumsum(steps), start))]
    first = int(np.linalg.norm(other - beside, axis=1).argmin())
    return np.roll(other, -first, 0)


def _beside(centre: Points, offset: float) -> Points:
    """Returns a closed line [N, 2] at an offset [m] to the right of another, smoothed."""
    ahead = np.roll(centre, -2, 0) - np.roll(centre, 2, 0)
    right = np.stack([ahead[:, 1], -ahead[:, 0]], 1)
    lane = centre + offset * right / np.linalg.norm(right, axis=1, keepdims=True)
    kernel = np.hanning(15) / np.hanning(15).sum()
    wrapped = np.vstack([lane[-7:], lane, lane[:7]])
    smooth = np.stack([np.convolve(wrapped[:, k], kernel, "valid") for k in (0, 1)], 1)
    return resample(np.vstack([smooth, smooth[:1]]), STEP)[:-1]


def resample(points: Points, step: float) -> Points:
    """Returns a polyline [N, 2] with a point about every `step` metres, both ends kept."""
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, s[-1], max(2, round(s[-1] / step) + 1))
    return np.stack([np.interp(at, s, points[:, k]) for k in (0, 1)], 1)


def unit(vector: Points) -> Points:
    """Scales a vector to norm 1."""
    scaled: Points = vector / np.linalg.norm(vector)
    return scaled


def cell_corners(nodes: Points, index: tuple[int, int]) -> Points:
    """Returns the corners [4, 2] of a cell of the street network."""
    i, j = index
    return np.array([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]])
