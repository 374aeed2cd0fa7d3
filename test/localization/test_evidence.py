# SPDX-License-Identifier: Apache-2.0
"""Evidence of one image: the lead over other places, and how far apart these are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from disam_ros.localization.calibration import DEFAULT
from disam_ros.localization.candidates import (
    HIGHEST,
    UNMAPPED,
    WIDEST,
    place_lead,
    place_log_odds,
    place_reach,
)

REACH = 30.0


def log_odds(*candidates):
    return place_log_odds(place_lead(*candidates), DEFAULT)


def along(*x):
    return np.array([[place, 0.0, 0.0] for place in x])


class Decaying:
    """Map images whose similarity falls with the distance, as a reranker compares them."""

    def __init__(self, positions, scale):
        self._positions, self._scale = positions, scale

    def between(self, row, rows):
        gaps = np.abs(self._positions[rows, 0] - self._positions[row, 0])
        return (0.1 + 0.6 * np.exp(-gaps / self._scale)).astype(np.float32)


def poses(count, spacing):
    rows = np.zeros((count, 7))
    rows[:, 0], rows[:, 3:] = spacing * np.arange(count), [0.5, 0.5, 0.5, 0.5]  # they look ahead
    return rows


def test_a_larger_lead_over_other_places_is_likelier_right():
    places = along(0, 100, 200, 300, 400, 500)
    odds = [log_odds(np.array([score, *[0.3] * 5]), places, REACH) for score in (0.3, 0.4, 0.5)]
    assert odds[0] < 0.0 < odds[1] < odds[2]


def test_neighbours_of_the_best_image_take_nothing_from_its_lead():
    scores = np.array([0.5, 0.49, 0.48, 0.3, 0.3, 0.3, 0.3, 0.3])
    near = along(0, 1, -1, 100, 200, 300, 400, 500)
    apart = along(0, 50, 60, 100, 200, 300, 400, 500)
    assert log_odds(scores, near, REACH) > log_odds(scores, apart, REACH)


def test_a_map_of_one_place_is_judged_by_the_score_of_typical_streets():
    here = along(0, 1, 2)
    clear, doubtful = UNMAPPED + 0.2, UNMAPPED
    assert log_odds(np.array([clear, 0.4, 0.3]), here, REACH) > 2.0
    assert log_odds(np.array([doubtful, 0.3, 0.3]), here, REACH) < 0.0


def test_a_calibration_tells_what_a_lead_is_worth():
    known = replace(DEFAULT, lead_slope=10.0, lead_intercept=-1.0)
    assert place_log_odds(0.3, known) == pytest.approx(2.0)


def test_no_image_is_surer_than_validation_data_can_show():
    assert log_odds(np.array([1.0, -1.0]), along(0, 100), REACH) == HIGHEST


@pytest.mark.parametrize("scale", [2.0, 4.0, 8.0])
def test_the_reach_of_a_place_follows_how_fast_views_change(scale):
    mapped = poses(200, 1.0)
    reach = place_reach(Decaying(mapped, scale), np.arange(200), mapped)
    assert scale * np.log(5.0) <= reach <= 2.5 * scale * np.log(5.0)


def test_the_reach_of_a_place_does_not_depend_on_how_large_the_map_is():
    small, large = poses(4096, 1.0), poses(10_000, 1.0)
    assert place_reach(Decaying(large, 3.0), np.arange(10_000), large) == place_reach(
        Decaying(small, 3.0), np.arange(4096), small
    )


def test_maps_too_small_or_too_alike_have_the_widest_reach():
    small, alike = poses(2, 1.0), poses(200, 1.0)
    assert place_reach(Decaying(small, 3.0), np.arange(2), small) == WIDEST
    assert place_reach(Decaying(alike, 1e9), np.arange(200), alike) == WIDEST
    still = poses(10, 0.0)
    assert place_reach(Decaying(still, 3.0), np.arange(10), still) == WIDEST
