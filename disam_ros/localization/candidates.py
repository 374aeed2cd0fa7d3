# SPDX-License-Identifier: Apache-2.0
"""Which map images are worth a closer look: of the whole map, of a disc, of a prior's surroundings.

With a prior they are the best of the whole map and the best near it, so that neither can hide the
other; the prior then adds a score to each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from disam_ros.config import PriorConfig
from disam_ros.errors import MapError
from disam_ros.localization.prior import GATE, OFF_MAP, OVERRULED, USED, Disc, PositionPrior
from disam_ros.mapping.index import CoarseIndex, PlaceIndex, open_index
from disam_ros.mapping.place_map import PlaceMap

MOST_NEAR = 5000  # images near a prior up to which all are compared: of more, the whole map's do


@dataclass(frozen=True)
class Shortlist:
    """Map images, each once: rows int64 [n] of the map, coarse similarities float32 [n].

    prior: what the prior adds to the fine similarity, float64 [n] ≤ 0. effects: what the prior did
    if an image is the answer (USED, OVERRULED or OFF_MAP of prior.py); empty without a prior.
    """

    rows: np.ndarray
    coarse: np.ndarray
    prior: np.ndarray
    effects: list[str]


class CandidateSearch:
    """Coarse search by camera."""

    def __init__(self, place_map: PlaceMap, device: torch.device) -> None:
        self._map, self._spacing = place_map, place_map.spacing()
        self._rows: dict[str, np.ndarray] = {}
        self._index: dict[str, CoarseIndex] = {}
        self._places: dict[str, PlaceIndex] = {}  # made when a place is first asked for
        for camera in place_map.cameras():
            rows = place_map.rows_of(camera)
            self._rows[camera] = rows
            codes, path = _select(place_map.coarse, rows), place_map.index_path(camera)
            self._index[camera] = open_index(codes, place_map.projection, device, path)

    def rows_of(self, camera: str) -> np.ndarray:
        """Rows of the map. Raises MapError for a camera that it lacks."""
        return self._rows[camera] if camera in self._rows else self._map.rows_of(camera)

    def everywhere(self, camera: str, query: np.ndarray, count: int) -> Shortlist:
        """The `count` best of a camera."""
        rows = self.rows_of(camera)
        return _plain(rows, *self._index[camera].search(query, count))

    def scores(
        self, camera: str, query: np.ndarray, rows: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coarse scores of some images and of the `count` best: rows among the camera's, scores."""
        found, scores = self._index[camera].search(query, count)
        more = np.setdiff1d(rows, found)
        codes = self._map.coarse[self._rows[camera][more]].astype(np.float32)
        others = np.einsum("nd,d->n", codes, query * self._map.projection.steps)
        return np.concatenate([found, more]), np.concatenate([scores, others])

    def within(self, camera: str, query: np.ndarray, count: int, disc: Disc) -> Shortlist:
        """The `count` best within a disc. Raises MapError where it holds none."""
        rows, places = self.rows_of(camera), self._place_index(camera)
        found, coarse = places.search(query, count, disc.x, disc.y, disc.radius)
        if not len(found):
            raise MapError(
                f"no map image of camera '{camera}' lies within {disc.radius:g} m of "
                f"({disc.x:.1f}, {disc.y:.1f}): search a larger place or none"
            )
        return _plain(rows, found, coarse)

    def with_prior(
        self, camera: str, query: np.ndarray, count: int, prior: PositionPrior, config: PriorConfig
    ) -> Shortlist:
        """The `count` best of the map and those near the prior, with what the prior adds."""
        rows, places = self.rows_of(camera), self._place_index(camera)
        found, coarse = self._index[camera].search(query, count)
        prior = prior.widened(np.hypot(config.slack, self._spacing / 2))
        near = places.near(*prior.mean, prior.gate_radius)
        near = near[prior.distances(self._positions(camera, near)) <= GATE]
        if not len(near):
            return _plain(rows, found, coarse, OFF_MAP)

        def score(some: np.ndarray) -> np.ndarray:
            likelihood = prior.log_likelihood(self._positions(camera, some), config.outlier_share)
            return config.temperature * likelihood

        if len(near) <= MOST_NEAR:
            more, scores = places.best(query, count, near, score(near))
            new = ~np.isin(more, found)
            found = np.concatenate([found, more[new]])
            coarse = np.concatenate([coarse, scores[new]])
        effects = [USED if inside else OVERRULED for inside in np.isin(found, near)]
        return Shortlist(rows[found], coarse, score(found), effects)

    def _positions(self, camera: str, found: np.ndarray) -> np.ndarray:
        return self._map.poses[self._rows[camera][found], :2]

    def _place_index(self, camera: str) -> PlaceIndex:
        if camera not in self._places:
            rows = self._rows[camera]
            codes, positions = _select(self._map.coarse, rows), self._map.poses[rows, :3]
            self._places[camera] = PlaceIndex(codes, self._map.projection, positions)
        return self._places[camera]


def _plain(rows: np.ndarray, found: np.ndarray, coarse: np.ndarray, effect: str = "") -> Shortlist:
    """Of found ones among some rows, to which no prior adds anything."""
    return Shortlist(rows[found], coarse, np.zeros(len(found)), [effect] * len(found))


def _select(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The array itself where all rows are wanted (it stays memory-mapped), else a copy."""
    return array if len(rows) == len(array) else array[rows]
