# SPDX-License-Identifier: Apache-2.0
"""Coarse retrieval of candidates, their re-ranking by fine similarity, and its evidence.

With a position prior the candidates are the best of the map and the best inside the prior's gate,
and the prior adds a log-weight to each.

The lead of the best score over those elsewhere on the map tells a right place from a wrong one, and
from an image off the map. On San Francisco's streets over fourteen years, KITTI odometry 00,
Gardens Point by night and rendered towns the lead of images off the map has the same distribution
within 0.03, in any condition; the constants of the logistic regression are those of the first two
(benchmark/accuracy/known.py). Models of other similarities have their own (`disam calibrate`).

How far another place is depends on the map: images of a walk between houses resemble each other up
to 8 m, those of a straight street up to 30 m. That distance is where the map's own images resemble
each other hardly more than any two of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from disam_ros.localization.calibration import SAMPLE, Calibration, background
from disam_ros.localization.prior import GATE, OFF_MAP, OVERRULED, USED, PositionPrior
from disam_ros.localization.query import Candidates, Query
from disam_ros.mapping.index import CoarseIndex, PlaceIndex, open_index
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.repetition import evenly
from disam_ros.mapping.rows import FineRows
from disam_ros.models.arrays import as_numpy, concatenate
from disam_ros.models.codes import shifted_features, squares_of
from disam_ros.models.similarity import TEMPERATURE, activation_map, shifts_of, sub_cell_shifts

logger = logging.getLogger(__name__)

MAX_GATED = 5000  # above this many map images inside the prior's gate, search the whole map instead
KEPT_BACKGROUNDS = 16  # cameras whose backgrounds are kept, some megabytes each
SPARE = 2  # times as many map images as asked for may be kept for the next image
LEAST_SAMPLE = 16  # images of a map camera that scores are normalized by, of several cameras
SLACK = 2.0  # position deviation of a prior from the map images [m]: lane offset, antenna lever arm

ELSEWHERE = 5  # best images elsewhere whose mean the best score is compared with
UNMAPPED = 0.35  # score that stands for each of them that the map lacks
HIGHEST = 7.0  # log odds: an error in a thousand is the rarest that could be observed

WIDEST = 30.0  # distance from which two map images always show different places [m]
GAPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # distances that are compared, in spacings of the map
ANYWHERE = 4096  # images of the map, at most, among which those far away are looked for
FALL = 0.2  # share of the similarity of neighbours that is left at another place
MARGIN = 1.25  # of that distance
# Similarity of neighbours less that of any two images, below which all are alike.
LEAST_CONTRAST = 0.05


@dataclass(frozen=True)
class Shortlist:
    """Map images, each once: rows int64 [n] of the map, coarse similarities float32 [n].

    prior: log-weight that a prior adds to the fine similarity, float64 [n] ≤ 0. effects: what the
    prior did if an image is the answer (USED, OVERRULED or OFF_MAP); empty without a prior.
    """

    rows: NDArray[np.int64]
    coarse: NDArray[np.float32]
    prior: NDArray[np.float64]
    effects: list[str]


class CandidateSearch:
    """Coarse search among the map images of a camera, by inner products of descriptors."""

    def __init__(self, place_map: PlaceMap, device: str) -> None:
        self._map, self._spacing = place_map, place_map.spacing()
        self._rows: dict[str, NDArray[np.int64]] = {}
        self._index: dict[str, CoarseIndex] = {}
        self._places: dict[str, PlaceIndex] = {}  # made when a place is first asked for
        for camera in place_map.cameras():
            rows = place_map.rows_of(camera)
            self._rows[camera] = rows
            codes, path = _select(place_map.coarse, rows), place_map.index_path(camera)
            whole = place_map.header.descriptor.as_in_paper
            self._index[camera] = open_index(codes, place_map.steps, device, path, whole)

    def rows_of(self, camera: str) -> NDArray[np.int64]:
        """Rows of the map. Raises MapError for a camera that it lacks."""
        return self._rows[camera] if camera in self._rows else self._map.rows_of(camera)

    def search(
        self,
        cameras: Sequence[str],
        query: NDArray[np.float32],
        count: int,
        prior: PositionPrior | None = None,
        outlier_ratio: float = 0.0,
    ) -> Shortlist:
        """Returns the `count` best map images of some cameras, and with a prior the best inside its
        gate. query: coarse descriptors [K, d] of the view and of the view shifted sideways."""
        shortlists = []
        for camera in cameras:
            if prior is None:
                rows, coarse = self._index[camera].search(query, count)
                shortlists.append(_plain(self.rows_of(camera), rows, coarse))
            else:
                shortlists.append(self._with_prior(camera, query, count, prior, outlier_ratio))
        return best_of(shortlists, count)

    def scores(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Coarse scores [n] of a view alone with map images. query: [d]."""
        codes = self._map.coarse[rows].astype(np.float64)
        scores: NDArray[np.float64] = codes @ (query * self._map.steps)
        return scores

    def _with_prior(
        self,
        camera: str,
        query: NDArray[np.float32],
        count: int,
        prior: PositionPrior,
        outlier_ratio: float,
    ) -> Shortlist:
        """Returns the `count` best of a camera and of the prior's gate, with its log-weights."""
        rows, places = self.rows_of(camera), self._place_index(camera)
        hits, coarse = self._index[camera].search(query, count)
        prior = prior.widened(np.hypot(SLACK, self._spacing / 2))
        x, y = prior.mean.tolist()
        near = places.near(x, y, prior.gate_radius)
        near = near[prior.distances(self._positions(camera, near)) <= GATE]
        if not len(near):
            return _plain(rows, hits, coarse, OFF_MAP)

        def score(hits: NDArray[np.int64]) -> NDArray[np.float64]:
            likelihood = prior.log_likelihood(self._positions(camera, hits), outlier_ratio)
            return TEMPERATURE * likelihood

        if len(near) <= MAX_GATED:
            more, scores = places.best(query, count, near, score(near))
            new = ~np.isin(more, hits)
            hits = np.concatenate([hits, more[new]])
            coarse = np.concatenate([coarse, scores[new]])
        effects = [USED if inside else OVERRULED for inside in np.isin(hits, near)]
        return Shortlist(rows[hits], coarse, score(hits), effects)

    def _positions(self, camera: str, hits: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._map.poses[self._rows[camera][hits], :2]

    def _place_index(self, camera: str) -> PlaceIndex:
        if camera not in self._places:
            rows = self._rows[camera]
            codes, positions = _select(self._map.coarse, rows), self._map.poses[rows, :3]
            self._places[camera] = PlaceIndex(codes, self._map.steps, positions)
        return self._places[camera]


class Background:
    """Map images that every query is compared with, and those that the last ones asked for.

    Most of the latter are asked for again by the next image of a drive, so that few are read.
    by_camera: rows of the map. shape: (C, h, w) of the fine descriptors.
    """

    def __init__(
        self,
        by_camera: Mapping[str, NDArray[np.int64]],
        fine: FineRows,
        shape: tuple[int, int, int],
    ) -> None:
        self.by_camera = by_camera
        self._fine, self._shape = fine, shape
        rows = np.unique(np.concatenate([*by_camera.values()]))
        self._count = len(rows)
        self._tables: list[Any] = [rows, *self._read(rows)]

    def with_others(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Any, Any]:
        """Returns map images, among them the background and `rows` [n], each once [m], their
        features [m, C, h, w], which a next call overwrites, and their squares [m, h, w]."""
        others, kept = np.setdiff1d(rows, self._rows[: self._count]), len(self._rows)
        if kept > SPARE * (self._count + len(others)):
            self._tables = [table[: self._count] for table in self._tables]
        new = np.setdiff1d(others, self._rows)
        free = np.flatnonzero(~np.isin(self._rows[self._count :], others))[: len(new)]
        free += self._count
        for k, values in enumerate((new, *self._read(new))):
            self._tables[k][free] = values[: len(free)]
            if len(new) > len(free):
                self._tables[k] = concatenate([self._tables[k], values[len(free) :]])
        return self._tables[0], self._tables[1], self._tables[2]

    @property
    def _rows(self) -> NDArray[np.int64]:
        """Rows of the map that the tables hold, first those of the background."""
        rows: NDArray[np.int64] = self._tables[0]
        return rows

    def _read(self, rows: NDArray[np.int64]) -> tuple[Any, Any]:
        """Features [n, C, h, w] of map images and their squares [n, h, w]."""
        z = self._fine.of(rows).reshape(-1, *self._shape)
        return z, squares_of(z)


class Reranker:
    """Fine similarity of a query with map images: the maximum over shifts of the feature map, the
    plain cosine on maps of the paper's retrieval.

    shape: (C, h, w) of the fine descriptors.
    """

    def __init__(self, place_map: PlaceMap, shape: tuple[int, int, int], device: str) -> None:
        self._map, self._shape = place_map, shape
        self._shifts = shifts_of(shape, place_map.header.descriptor)
        self._fine = FineRows(place_map.fine, device)
        self._backgrounds: dict[tuple[str, frozenset[str]], Background] = {}

    @property
    def has_cells(self) -> bool:
        """Whether fine descriptors are feature maps; a global descriptor has one cell."""
        return self._shape[1:] != (1, 1)

    @property
    def widest_shifts(self) -> tuple[float, float]:
        """The largest shifts sideways and upright that are compared, as shares of the view."""
        return self._shifts.columns / self._shape[2], self._shifts.rows / self._shape[1]

    def rank(self, query: Query, shortlist: Shortlist) -> Candidates:
        """Re-ranks a shortlist by fine similarity plus the prior's log-weight."""
        fine, shifts = self.compare(query, shortlist.rows)
        return Candidates(
            place_map=self._map,
            rows=shortlist.rows,
            coarse=shortlist.coarse.clip(-1.0, 1.0),
            fine=fine,
            prior=shortlist.prior,
            effects=shortlist.effects,
            shifts=shifts,
            keypoints=np.zeros(len(fine)),
        ).sorted()

    def compare(
        self, query: Query, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Fine similarity with map images `rows` [n], and the shifts that they have it at [n, 2].

        A shift (x, y), as shares of the view, moves the map image onto the query: right, down.
        """
        self._compare_new(query, rows)
        return query.compared.of(rows)

    def _compare_new(self, query: Query, rows: NDArray[np.int64]) -> None:
        """Compares a query with the map images of `rows` [n] that it was not compared with."""
        new = query.compared.missing(rows)
        if len(new):
            z = self._features(new)
            self._add(query, new, query.moved.similarities(z, squares_of(z)))

    def _add(self, query: Query, rows: NDArray[np.int64], similarities: Any) -> None:
        """Keeps a query's similarities [1, n, S] with map images `rows` [n]."""
        scores = as_numpy(similarities[0])
        shifts = sub_cell_shifts(scores, self._shifts)
        shifts /= np.array(self._shape[:0:-1], np.float32)
        query.compared.add(rows, np.column_stack([_highest(scores), shifts]))

    def compare_with_background(self, query: Query, rows: NDArray[np.int64]) -> None:
        """Compares a query, which was not compared yet, with map images `rows` [n] and its
        background in one product."""
        compared, z, squares = self._background(query).with_others(rows)
        self._add(query, compared, query.moved.similarities(z, squares))

    def between(self, row: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fine similarity of a map image with others, float32 [n]."""
        features = shifted_features(self._features(np.array([row])), self._shifts)
        z = self._features(rows)
        return _highest(as_numpy(features.similarities(z, squares_of(z))[0]))

    def background(self, query: Query) -> dict[str, NDArray[np.float32]]:
        """Fine similarity with a `background` of each map camera of the query: SAMPLE images of
        all, but LEAST_SAMPLE of each."""
        samples = self._background(query).by_camera
        return {camera: self.compare(query, samples[camera])[0] for camera in query.cameras}

    def _background(self, query: Query) -> Background:
        """Map images of the background; each camera has its own, as it asks for others."""
        cameras = frozenset(query.cameras)
        key = query.camera, cameras
        if key not in self._backgrounds:
            count = max(LEAST_SAMPLE, SAMPLE // len(cameras))
            rows = {camera: background(self._map.rows_of(camera), count) for camera in cameras}
            kept = list(self._backgrounds.items())[1 - KEPT_BACKGROUNDS :]
            self._backgrounds = {**dict(kept), key: Background(rows, self._fine, self._shape)}
        return self._backgrounds[key]

    def _features(self, rows: NDArray[np.int64]) -> Any:
        """Fine descriptors of map images [n, C, h, w]."""
        return self._fine.of(rows).reshape(-1, *self._shape)

    def activation_map(self, query: Query, row: int) -> NDArray[np.float32]:
        """Gradient-weighted similarity activation map (DISAM, Eq. 18): float32 [h, w] in [0, 1]."""
        reference = np.asarray(self._map.fine[row], np.float32).reshape(self._shape)
        heat = activation_map(as_numpy(query.fine), reference)
        return heat / max(float(heat.max()), 1e-12)


def _highest(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maximum over shifts, [n, S] → [n]."""
    best: NDArray[np.float32] = scores.max(1).clip(-1.0, 1.0)  # rounding
    return best


def best_of(shortlists: Sequence[Shortlist], count: int) -> Shortlist:
    """Returns the `count` best by coarse similarity of the shortlists of several cameras."""
    if len(shortlists) == 1:
        return shortlists[0]
    coarse = np.concatenate([shortlist.coarse for shortlist in shortlists])
    best = np.argsort(-coarse, kind="stable")[:count]
    effects = [effect for shortlist in shortlists for effect in shortlist.effects]
    return Shortlist(
        np.concatenate([shortlist.rows for shortlist in shortlists])[best],
        coarse[best],
        np.concatenate([shortlist.prior for shortlist in shortlists])[best],
        [effects[k] for k in best],
    )


def _plain(
    rows: NDArray[np.int64], hits: NDArray[np.int64], coarse: NDArray[np.float32], effect: str = ""
) -> Shortlist:
    """Returns a shortlist without prior. rows: of a camera; hits: indices into them."""
    return Shortlist(rows[hits], coarse, np.zeros(len(hits)), [effect] * len(hits))


def _select(array: NDArray[np.int8], rows: NDArray[np.int64]) -> NDArray[np.int8]:
    """Returns the array itself for all rows, so that it stays memory-mapped, else a copy."""
    return array if len(rows) == len(array) else array[rows]


def place_log_odds(lead: float, calibration: Calibration) -> float:
    """Computes the log odds that the candidate with this lead shows the right place."""
    return min(HIGHEST, calibration.lead_slope * lead + calibration.lead_intercept)


def place_lead(scores: NDArray[np.float64], positions: NDArray[np.float64], reach: float) -> float:
    """Computes the lead of the first candidate over other places.

    scores: fine similarities [n], best first; positions: of the candidates [n, 3] [m]; reach:
    distance from which a map image shows another place [m].
    """
    away = np.linalg.norm(positions - positions[0], axis=1) >= reach
    others = scores[away][:ELSEWHERE]
    missing = ELSEWHERE - len(others)
    elsewhere = (float(others.sum()) + UNMAPPED * missing) / ELSEWHERE
    return float(scores[0]) - elsewhere


def place_reach(reranker: Reranker, rows: NDArray[np.int64], poses: NDArray[np.float64]) -> float:
    """Estimates the distance [m] from which map images show different places, at most WIDEST.

    rows: of one camera's images in the map [n]; poses: theirs [n, 7]. A map that is too small or
    too alike for that counts as wide.
    """
    positions, extent = poses[:, :3], float(np.ptp(poses[:, :3], axis=0).max(initial=0.0))
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    spacing = float(np.median(steps)) if len(steps) else 0.0
    gaps = spacing * np.array(GAPS)
    gaps = gaps[gaps <= min(WIDEST, extent / 2)]
    if len(gaps) < 2 or spacing <= 0.0:
        logger.info("the map is too small to tell how far apart its places are")
        return WIDEST
    tree, ahead = cKDTree(positions), _forward(poses)
    anywhere = evenly(len(rows), ANYWHERE)
    far_ranks = evenly(max(1, len(anywhere) // 4), 4)  # of the farthest quarter
    near = list[NDArray[np.float64]]()
    far = list[float]()
    for query in evenly(len(rows), SAMPLE):
        squares = np.square(positions[anywhere] - positions[query]).sum(1)
        around = np.array(tree.query_ball_point(positions[query], gaps[-1] + spacing))
        around = around[ahead[around] @ ahead[query] > np.cos(np.pi / 4)]
        distances = np.linalg.norm(positions[around] - positions[query], axis=1)
        nearest = np.abs(distances[None] - gaps[:, None])  # [gaps, images]
        chosen = around[nearest.argmin(1)]
        missing = np.where(nearest.min(1) <= spacing / 2, 0.0, np.nan)
        others = anywhere[np.argpartition(-squares, far_ranks)[far_ranks]]
        scores = reranker.between(rows[query], rows[np.concatenate([chosen, others])])
        near.append(scores[: len(gaps)] + missing)
        far.append(float(scores[len(gaps) :].mean()))
    level = float(np.mean(far))
    means = np.array([np.nanmean(c) if np.isfinite(c).any() else np.nan for c in np.array(near).T])
    contrast = float(np.nanmax(means)) - level
    if contrast < LEAST_CONTRAST:
        logger.info("the map's images are too alike to tell how far apart its places are")
        return WIDEST
    fallen = np.flatnonzero((means <= level + FALL * contrast) & (gaps >= 2.0 * spacing))
    return min(WIDEST, MARGIN * float(gaps[fallen[0]])) if len(fallen) else WIDEST


def _forward(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Optical axes [n, 3] of cameras with poses [n, 7]."""
    x, y, z, w = poses[:, 3:].T
    return np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=1)
