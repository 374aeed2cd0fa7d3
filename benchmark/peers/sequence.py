# SPDX-License-Identifier: Apache-2.0
"""SeqSLAM's search for sequences (Milford & Wyeth, ICRA 2012) in the similarities of one drive.

Online: a query uses the frames before it, without look-ahead; the first ones fewer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAMES = 10  # of a sequence, the query's own the last (paper: d_s = 10)
WINDOW = 10  # map images around one that its contrast is enhanced by (paper: R_window = 10)
SAME_PACE = (0.8, 1.2)  # slowest, fastest, in map images per query (paper)
STEP = 0.1  # between two velocities


def sequence_similarity(
    similarity: NDArray[Any], velocities: tuple[float, float] = SAME_PACE
) -> NDArray[Any]:
    """Similarities [Q, M] of one drive's images in order → of the sequences that end there [Q, M].

    The mean along the best straight line; what would lie before the map's first image counts 0,
    which is neither for nor against. velocities: slowest, fastest, in map images per query.
    """
    enhanced = enhance_contrast(similarity)
    slowest, fastest = velocities
    best = np.full_like(enhanced, -np.inf)
    for velocity in np.linspace(slowest, fastest, round((fastest - slowest) / STEP) + 1):
        np.maximum(best, sum_along(enhanced, velocity), out=best)
    frames = np.arange(1, len(best) + 1, dtype=best.dtype).clip(max=FRAMES)
    result: NDArray[Any] = best / frames[:, None]
    return result


def enhance_contrast(similarity: NDArray[Any]) -> NDArray[Any]:
    """Each value [Q, M] less the mean, by the deviation, of its neighbourhood on the map."""
    places = np.arange(similarity.shape[1])
    first, end = (places - WINDOW // 2).clip(0), (places + WINDOW // 2 + 1).clip(max=len(places))
    centred = similarity - similarity.mean(1, keepdims=True, dtype=np.float64)
    mean, square = (_window_sums(x, first, end) / (end - first) for x in (centred, centred**2))
    deviation = np.sqrt((square - mean**2).clip(0))
    result: NDArray[Any] = ((centred - mean) / deviation.clip(1e-6)).astype(np.float32)
    return result


def sum_along(enhanced: NDArray[Any], velocity: float) -> NDArray[Any]:
    """Sums [Q, M] of values [Q, M] along lines of one velocity that end at each of them."""
    queries, places = enhanced.shape
    total = np.zeros_like(enhanced)
    for back in range(min(FRAMES, queries)):
        shift = min(round(velocity * back), places)
        total[back:, shift:] += enhanced[: queries - back, : places - shift]
    return total


def _window_sums(values: NDArray[Any], first: NDArray[Any], end: NDArray[Any]) -> NDArray[Any]:
    """Sums [Q, M] of values [Q, M] over the columns first…end − 1 of each column."""
    sums = np.pad(values.cumsum(1), ((0, 0), (1, 0)))
    result: NDArray[Any] = sums[:, end] - sums[:, first]
    return result
