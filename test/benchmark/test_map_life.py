# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from benchmark.research.map_life import area


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    pairs = scores[positive][:, None] - scores[~positive]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert area(scores, positive) == pytest.approx(expected)
    assert area(scores, np.zeros(40, bool)) is None
