# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from rich.console import Console

from benchmark.peers.hog import hog_descriptors, hog_matches
from disam_ros.evaluation import chance, errors, score, table, upper_bound
from disam_ros.geometry import Transform, distance


def pose(x, yaw_deg=0.0):
    return Transform.from_xyz_rpy([x, 0, 0, 0, 0, np.radians(yaw_deg)])


TRUTH = [pose(float(x)) for x in range(4)]
ANSWERS = [pose(0.2, 1.0), pose(1.2, 4.0), pose(6.0, 8.0), None]


def test_errors_equal_the_pairwise_distances():
    metres, degrees = errors(TRUTH, ANSWERS)
    for i in range(3):
        expected = distance(TRUTH[i], ANSWERS[i])
        assert (metres[i], degrees[i]) == pytest.approx(expected, abs=1e-6)
    assert np.isinf(metres[3]) and np.isinf(degrees[3])


def test_shares_are_of_all_queries_answered_or_not():
    result = score(TRUTH, ANSWERS)
    assert list(result.within.values()) == [0.25, 0.5, 0.75]
    assert result.answered == 0.75
    assert result.recall_at_1 == 0.75
    assert result.median_error_m == pytest.approx(0.2)


def test_both_metres_and_degrees_must_hold():
    assert score([pose(0.0)], [pose(0.1, 11.0)]).within["5 m 10°"] == 0.0


def test_no_answer_at_all_scores_zero():
    result = score(TRUTH, [None] * 4)
    assert result.recall_at_1 == 0.0 and np.isnan(result.median_error_m)


def test_chance_is_the_average_over_all_map_images():
    references = [pose(float(x)) for x in range(20)]
    result = chance([pose(0.0)], references)
    assert result.within["5 m 10°"] == pytest.approx(6 / 20)


def test_the_upper_bound_answers_with_the_nearest_map_image():
    references = [pose(0.0), pose(2.0)]
    result = upper_bound([pose(0.1), pose(1.7)], references)
    assert result.median_error_m == pytest.approx(0.2)


def test_the_table_names_every_row():
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table("title", {"night": score(TRUTH, ANSWERS)}))
    assert "night" in capture.get() and "75.0" in capture.get()


def test_hog_finds_the_same_image():
    images = np.random.default_rng(0).integers(0, 256, (5, 60, 80, 3), dtype=np.uint8)
    descriptors = hog_descriptors(images)
    assert hog_matches(descriptors, descriptors).tolist() == [0, 1, 2, 3, 4]
