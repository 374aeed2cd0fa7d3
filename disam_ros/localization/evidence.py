# SPDX-License-Identifier: Apache-2.0
"""Evidence of one image: the probability that its best map image shows the right place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

ELSEWHERE_M = 30.0  # distance from which a map image shows another place [m]


def place_probability(scores: NDArray[np.float64], positions: NDArray[np.float64]) -> float:
    """Probability of the first candidate's place, by its lead over the best place elsewhere.

    scores: fine similarities [n], best first; positions: of the candidates [n, 3] [m].
    """
    elsewhere = np.linalg.norm(positions - positions[0], axis=1) >= ELSEWHERE_M
    lead = scores[0] - max(scores[elsewhere], default=0.0)
    return float(expit(40.0 * lead - 2.0))
