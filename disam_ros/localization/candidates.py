# SPDX-License-Identifier: Apache-2.0
"""Coarse retrieval of candidates and their re-ranking by fine similarity.

With a position prior the candidates are the best of the map and the best inside the prior's gate,
and the prior adds a log-weight to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.localization.answer import Candidates
from disam_ros.localization.calibration import SAMPLE, background
from disam_ros.localization.prior import GATE, OFF_MAP, OVERRULED, USED, PositionPrior
from disam_ros.localization.query import Query
from disam_ros.mapping.fine_rows import FineRows
from disam_ros.mapping.index import CoarseIndex, PlaceIndex, open_index
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.arrays import as_numpy
from disam_ros.models.descriptor import shifts_of
from disam_ros.models.similarity import ShiftedFeatures, activation_map, sub_cell_shifts
from disam_ros.uncertainty import TEMPERATURE

MAX_GATED = 5000  # above this many map images inside the prior's gate, search the whole map instead
LEAST_SAMPLE = 16  # images of a map camera that scores are normalized by, of several cameras
SLACK = 2.0  # position deviation of a prior from the map images [m]: lane offset, antenna lever arm


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


class Reranker:
    """Fine similarity of a query with map images: the maximum over shifts of the feature map, the
    plain cosine on maps of the paper's retrieval.

    shape: (C, h, w) of the fine descriptors.
    """

    def __init__(self, place_map: PlaceMap, shape: tuple[int, int, int], device: str) -> None:
        self._map, self._shape = place_map, shape
        self._shifts = shifts_of(shape, place_map.header.descriptor)
        self._fine = FineRows(place_map.fine, device)
        self._backgrounds: dict[tuple[str, ...], dict[str, NDArray[np.int64]]] = {}  # by cameras

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
            scores = as_numpy(query.moved.similarities(self._features(new))[0])
            shifts = sub_cell_shifts(scores, self._shifts)
            shifts /= np.array(self._shape[:0:-1], np.float32)
            query.compared.add(new, np.column_stack([_highest(scores), shifts]))

    def compare_with_background(self, query: Query, rows: NDArray[np.int64]) -> None:
        """Compares a query with map images `rows` [n] and its background in one product."""
        self._compare_new(query, np.concatenate([rows, *self._background_rows(query).values()]))

    def between(self, row: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fine similarity of a map image with others, float32 [n]."""
        features = ShiftedFeatures.of(self._features(np.array([row])), self._shifts, None)
        return _highest(as_numpy(features.similarities(self._features(rows))[0]))

    def background(self, query: Query) -> dict[str, NDArray[np.float32]]:
        """Fine similarity with a `background` of each map camera of the query: SAMPLE images of
        all, but LEAST_SAMPLE of each."""
        samples = self._background_rows(query)
        return {camera: self.compare(query, rows)[0] for camera, rows in samples.items()}

    def _background_rows(self, query: Query) -> dict[str, NDArray[np.int64]]:
        """Map images of the background by camera."""
        cameras = tuple(query.cameras)
        if cameras not in self._backgrounds:
            count = max(LEAST_SAMPLE, SAMPLE // len(cameras))
            rows = {camera: background(self._map.rows_of(camera), count) for camera in cameras}
            self._fine.keep(np.concatenate([*rows.values()]))
            self._backgrounds[cameras] = rows
        return self._backgrounds[cameras]

    def _features(self, rows: NDArray[np.int64]) -> Any:
        """Fine descriptors of map images, float32 [n, C, h, w]."""
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
