# SPDX-License-Identifier: Apache-2.0
"""Images of two maps that show the same place, by the descriptors that the maps hold.

Coarse codes find candidates, fine codes with shifts choose among them, as for a query; a match
counts where each image is the other's best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.repetition import evenly
from disam_ros.models.similarity import Shifts, decode, shifted_similarities, unit_rows

SAMPLES = 400  # images of a map that are looked for in the other
CANDIDATES = 5  # that the fine similarity chooses among
CHUNK = 256  # images compared at once


@dataclass(frozen=True)
class Matches:
    """Pairs of images of two maps: rows int64 [n] of each, fine similarity float64 [n]."""

    rows_a: NDArray[np.int64]
    rows_b: NDArray[np.int64]
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows_a)


def match_maps(a: PlaceMap, b: PlaceMap, shape: tuple[int, int, int]) -> Matches:
    """Mutual best matches of a sample of b's images with a's, of cameras of the same name.

    shape: (C, h, w) of fine descriptors.
    """
    matches = []
    for camera in sorted(set(a.camera_names) & set(b.camera_names)):
        rows_a, rows_b = a.rows_of(camera), b.rows_of(camera)
        sample = rows_b[evenly(len(rows_b), SAMPLES)]
        best, score = best_matches(b, sample, a, rows_a, shape)
        back, _ = best_matches(a, best, b, rows_b, shape)
        # Neighbours along the track look alike: the way back may end at the next image.
        at = np.searchsorted(rows_b, back) - np.searchsorted(rows_b, sample)
        mutual = np.abs(at) <= 1
        matches.append((best[mutual], sample[mutual], score[mutual]))
    rows = [np.concatenate([part[k] for part in matches]) for k in range(3)] if matches else []
    if not rows:
        return Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Matches(*rows)


def best_matches(
    queries: PlaceMap,
    rows: NDArray[np.int64],
    place_map: PlaceMap,
    among: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of a map's `rows`, the most similar image among rows of a map; its similarity."""
    coarse = coarse_similarities(queries, rows, place_map, among)
    count = min(CANDIDATES, len(among))
    candidates = among[np.argpartition(-coarse, count - 1, axis=1)[:, :count]]
    best = np.zeros(len(rows), np.int64)
    scores = np.zeros(len(rows))
    for index, row in enumerate(rows.tolist()):
        fine = fine_similarities(queries, row, place_map, candidates[index], shape)
        chosen = int(fine.argmax())
        best[index], scores[index] = candidates[index, chosen], fine[chosen]
    return best, scores


def coarse_similarities(
    a: PlaceMap, rows_a: NDArray[np.int64], b: PlaceMap, rows_b: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Inner products of coarse descriptors, [len(rows_a), len(rows_b)]."""
    left, right = (
        unit_rows(decode(m.coarse[rows], m.steps)) for m, rows in ((a, rows_a), (b, rows_b))
    )
    products: NDArray[np.float32] = left @ right.T
    return products


def fine_similarities(
    a: PlaceMap,
    row: int,
    b: PlaceMap,
    rows: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Fine similarity of image `row` of a with images `rows` [n] of b: the best over shifts, [n].

    Both were centred on the mean of their map, which is nearly the same for two drives of a place.
    """
    one, many = (
        np.array(codes, np.float32).reshape(-1, *shape)
        for codes in (a.fine[row : row + 1], b.fine[rows])
    )
    scores = shifted_similarities(one, many, Shifts.of_grid(*shape[1:]))[0].max(1)
    return np.asarray(scores, np.float64)
