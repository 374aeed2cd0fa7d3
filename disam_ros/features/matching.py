# SPDX-License-Identifier: Apache-2.0
"""Matching of keypoints: mutual nearest neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from disam_ros.features.detection import unit_vectors

# Largest ratio of the best match's distance to the second best's (Lowe, IJCV 2004). Between day and
# night a learned descriptor's second best match is hardly farther than the right one.
MAX_RATIO = {"sift": 0.85, "orb": 0.85, "xfeat": 1.0, "aliked": 1.0}

Matches = NDArray[np.int64]  # pairs of rows [M, 2]


def match(name: str, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Matches:
    """Mutual nearest neighbours: pairs of rows int64 [M, 2] of descriptors [Ka, D] and [Kb, D].

    name: the local features that made both. SIFT and ORB also pass the ratio test from `a` to `b`
    (Lowe, IJCV 2004).
    """
    return match_vectors(name, unit_vectors(name, a), unit_vectors(name, b))


def match_vectors(name: str, a: NDArray[np.float32], b: NDArray[np.float32]) -> Matches:
    """`match` of the descriptors' unit vectors [Ka, D] and [Kb, D]."""
    return _Mutual(a, b).pairs(MAX_RATIO[name])


def match_both_ways(
    name: str, a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[Matches, Matches]:
    """`match_vectors` from `a` to `b` and from `b` to `a`, by one product of both."""
    mutual, ratio = _Mutual(a, b), MAX_RATIO[name]
    back = mutual.pairs(ratio, axis=0)[:, ::-1]
    return mutual.pairs(ratio), back[np.argsort(back[:, 0])]


class _Mutual:
    """Mutual nearest neighbours of unit vectors [Ka, D] and [Kb, D], before the ratio test."""

    def __init__(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
        self._cosines = cosines = a @ b.T
        if not cosines.size:
            self._rows = self._nearest = np.zeros(0, np.int64)
            self._best = np.zeros(0, np.float32)
            return
        rows, nearest = np.arange(len(a)), cosines.argmax(1)
        best = cosines[rows, nearest]
        mutual = best == cosines.max(0)[nearest]  # faster than argmax along columns
        _, first = np.unique(nearest[mutual], return_index=True)  # of equal descriptors
        self._rows = rows[mutual][np.sort(first)]
        self._nearest, self._best = nearest[self._rows], best[self._rows]
        cosines[self._rows, self._nearest] = -np.inf  # what remains are the second best

    def pairs(self, max_ratio: float, axis: Literal[0, 1] = 1) -> Matches:
        """Pairs [M, 2] that pass the ratio test among the others of a row (axis 1) or column."""
        pairs = np.stack([self._rows, self._nearest], 1)
        if max_ratio >= 1.0 or not self._cosines.size:
            return pairs
        second = self._cosines.max(axis)[pairs[:, 1 - axis]]
        farthest = max_ratio**2 * (1.0 - second)  # squared distances are 2 − 2 cos
        passed: Matches = pairs[1.0 - self._best <= farthest]
        return passed
