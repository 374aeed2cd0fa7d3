# SPDX-License-Identifier: Apache-2.0
"""Evidence of one image: the probability that its best map image shows the right place.

The lead of the best score over those elsewhere on the map tells a right place from a wrong one and
from an image off the map, whatever the condition: on San Francisco's streets over fourteen years,
KITTI, webcams by night and rendered towns its distribution off the map is the same within 0.03
(benchmark/accuracy/known.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ELSEWHERE_M = 30.0  # distance from which a map image shows another place [m]
ELSEWHERE = 5  # best images elsewhere whose mean the best score is compared with
UNMAPPED = 0.35  # score that stands for each of them that the map lacks
SLOPE, INTERCEPT = 70.0, -5.0  # of the log odds by the lead


def place_log_odds(scores: NDArray[np.float64], positions: NDArray[np.float64]) -> float:
    """Log odds that the first candidate shows the right place.

    scores: fine similarities [n], best first; positions: of the candidates [n, 3] [m].
    """
    away = np.linalg.norm(positions - positions[0], axis=1) >= ELSEWHERE_M
    others = scores[away][:ELSEWHERE]
    missing = ELSEWHERE - len(others)
    elsewhere = (float(others.sum()) + UNMAPPED * missing) / ELSEWHERE
    return SLOPE * (float(scores[0]) - elsewhere) + INTERCEPT
