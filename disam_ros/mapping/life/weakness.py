# SPDX-License-Identifier: Apache-2.0
"""Where a map will fail, foretold from the map alone: every image asks the map for its own place.

A place is recognised where its images look more alike than images of other places do, by more than
a change of light or lane takes away. Each image is compared with the others within SAME_M and with
the coarse stage's best of other places, by fine similarity:

* aliasing: similarity of the best image of another place, less that of the best of its own;
* own: similarity of the best of its own place, low where the view changes quickly.

The risk of a place is the sum of aliasing and of how little is own, each in standard deviations of
the map, averaged over the images within RADIUS that look the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.mapping.life.matches import coarse_similarities, fine_similarities
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.repetition import evenly

SAME_M, SAME_DEG = 5.0, 45.0  # within which images show one place
SAME_STEPS = 1.5  # or so many of the map's spacings; from twice as far they show different ones
CANDIDATES = 8  # of the own place and of others, compared by fine similarity
MOST = 4000  # images that are looked at; of larger maps, evenly
RADIUS = 10.0  # [m] over which risks are averaged
HOLE_STEPS, HOLE_M = 4.0, 10.0  # a gap in a drive: so many times the spacing, and so long
PAUSE_NS = 120 * 10**9  # in a drive, at most
HEADINGS = 8  # sectors of the view
DARK = 30.0  # mean grey level below which little can be seen


@dataclass(frozen=True)
class Weakness:
    """What makes n images hard to recognize."""

    rows: NDArray[np.int64]  # of the map [n]
    risk: NDArray[np.float64]  # in standard deviations [n]
    aliasing: NDArray[np.float64]  # similarity of another place less self_similarity [n]
    twin: NDArray[np.int64]  # row of that place's image [n]
    self_similarity: NDArray[np.float64]  # with the image's own place [n]
    light: NDArray[np.float64]  # mean grey level of the thumbnail, 0 to 255; nan without [n]
    gap: NDArray[np.float64]  # to the next images of the drive [m], [n]
    hole: NDArray[np.bool_]  # whether the gap is one [n]
    headings: NDArray[np.bool_]  # sectors of 45° seen within SAME_M [n, HEADINGS]
    domains: NDArray[np.bool_]  # conditions seen there [n, D]
    domain_names: tuple[str, ...]  # [D]


def weakness(place_map: PlaceMap, shape: tuple[int, int, int]) -> Weakness:
    """Weak places of a map. shape: (C, h, w) of fine descriptors."""
    rows = evenly(len(place_map), MOST)
    poses = place_map.poses
    axes = Rotation.from_quat(poses[:, 3:]).as_matrix()[:, :, 2]
    aliasing, twin, self_similarity = _aliasing(place_map, rows, axes, shape)
    gap, hole = _gaps(place_map)
    headings, domains, names = _seen(place_map, rows, axes)
    score = _standard(aliasing) - _standard(self_similarity)
    return Weakness(
        rows=rows,
        risk=_smoothed(poses[rows], axes[rows], score),
        aliasing=aliasing,
        twin=twin,
        self_similarity=self_similarity,
        light=_light(place_map, rows),
        gap=gap[rows],
        hole=hole[rows],
        headings=headings,
        domains=domains,
        domain_names=names,
    )


def risk_at(place_map: PlaceMap, weak: Weakness, poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Risk of poses map_from_camera [n, 7]: that of the nearest image that looks the same way."""
    axes, seen = (
        Rotation.from_quat(p[:, 3:]).as_matrix()[:, :, 2] for p in (poses, place_map.poses)
    )
    tree = cKDTree(_points(place_map.poses[weak.rows], seen[weak.rows]))
    nearest = tree.query(_points(poses, axes))[1]
    risks: NDArray[np.float64] = weak.risk[nearest]
    return risks


def _aliasing(
    place_map: PlaceMap,
    rows: NDArray[np.int64],
    axes: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Margin of the best image of another place over the own place, its row, the own similarity."""
    margin, self_similarity = np.zeros(len(rows)), np.zeros(len(rows))
    twin = rows.copy()
    for camera in place_map.cameras():
        among = place_map.rows_of(camera)
        place = max(SAME_M, SAME_STEPS * _usual_step(place_map.poses[among]))
        mine = np.flatnonzero(np.isin(rows, among))
        for index in mine.tolist():
            row = int(rows[index])
            coarse = coarse_similarities(place_map, rows[index : index + 1], place_map, among)[0]
            gaps = np.linalg.norm(place_map.poses[among, :3] - place_map.poses[row, :3], axis=1)
            same = (axes[among] @ axes[row]) >= np.cos(np.radians(SAME_DEG))
            near = (gaps <= place) & same & (among != row)
            far = gaps > 2 * place
            best = [0.0, 0.0]
            for kind, chosen in enumerate((near, far)):
                others = among[chosen]
                if not len(others):
                    continue
                others = others[np.argsort(-coarse[chosen])[:CANDIDATES]]
                scores = fine_similarities(place_map, row, place_map, others, shape)
                best[kind] = float(scores.max())
                if kind == 1:
                    twin[index] = others[int(scores.argmax())]
            self_similarity[index], margin[index] = best[0], best[1] - best[0]
    return margin, twin, self_similarity


def _gaps(place_map: PlaceMap) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Longer distance to the next images of the drive [m], [N], and whether it is a hole.

    A hole lies between images of one drive, PAUSE apart at most, and no other drive fills it.
    """
    gap = np.zeros(len(place_map))
    hole = np.zeros(len(place_map), bool)
    stamps = np.array([record.stamp_ns for record in place_map.records])
    tree = cKDTree(place_map.poses[:, :2])
    for camera in place_map.cameras():
        rows = place_map.rows_of(camera)
        places = place_map.poses[rows]
        lengths = np.linalg.norm(np.diff(places[:, :3], axis=0), axis=1)
        waits = np.diff(stamps[rows])
        same = (waits >= 0) & (waits <= PAUSE_NS)  # a drive
        usual = float(np.median(lengths[same])) if same.any() else 0.0
        middle = (places[1:, :2] + places[:-1, :2]) / 2
        bare = tree.query(middle)[0] > SAME_M if len(middle) else np.zeros(0, bool)
        holes = same & bare & (lengths > max(HOLE_STEPS * usual, HOLE_M))
        for side in (rows[:-1], rows[1:]):
            gap[side] = np.maximum(gap[side], np.where(same, lengths, 0.0))
            hole[side] |= holes
    return gap, hole


def _usual_step(poses: NDArray[np.float64]) -> float:
    """Median distance between consecutive images [m]."""
    steps = np.linalg.norm(np.diff(poses[:, :3], axis=0), axis=1)
    return float(np.median(steps)) if len(steps) else 0.0


def _light(place_map: PlaceMap, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean grey level of the thumbnails; nan without."""
    levels = np.full(len(rows), np.nan)
    for index, row in enumerate(rows.tolist()):
        picture = place_map.thumbnail(row)
        if picture is not None:
            levels[index] = float(picture.mean())
    return levels


def _seen(
    place_map: PlaceMap, rows: NDArray[np.int64], axes: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[str, ...]]:
    """Headings and conditions that the map holds within SAME_M of each image."""
    sector = (np.degrees(np.arctan2(axes[:, 1], axes[:, 0])) % 360.0 / (360.0 / HEADINGS)).astype(
        int
    ) % HEADINGS
    all_domains = [record.domain for record in place_map.records]
    names = tuple(sorted(set(all_domains)))
    number = np.array([names.index(name) for name in all_domains])
    near = cKDTree(place_map.poses[:, :2]).query_ball_point(place_map.poses[rows, :2], SAME_M)
    headings = np.zeros((len(rows), HEADINGS), bool)
    domains = np.zeros((len(rows), len(names)), bool)
    for index, around in enumerate(near):
        headings[index, sector[around]] = True
        domains[index, number[around]] = True
    return headings, domains, names


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values in standard deviations from the median, at most 4 either way."""
    spread = float(values.std())
    if spread < 1e-9:
        return np.zeros(len(values))
    scores: NDArray[np.float64] = ((values - np.median(values)) / spread).clip(-4.0, 4.0)
    return scores


def _points(poses: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions and optical axes as points of which near ones show the same: 90° are SAME_M·1.4."""
    return np.hstack([poses[:, :2], SAME_M * axes[:, :2]])


def _smoothed(
    poses: NDArray[np.float64], axes: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of the images within RADIUS that look the same way."""
    points = _points(poses, axes)
    near = cKDTree(points).query_ball_point(points, RADIUS)
    return np.array([values[around].mean() for around in near])
