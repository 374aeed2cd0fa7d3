# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.spatial.transform import Rotation

from disam_ros.errors import DatasetError
from disam_ros.evaluation import Criteria, chance, errors, score, table, upper_bound
from disam_ros.evaluation.baselines import hog_descriptors, hog_matches
from disam_ros.evaluation.compare import compare, comparison_table
from disam_ros.evaluation.confidence import consistency, precision_recall
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


def test_queries_without_a_true_pose_are_not_judged():
    result = score([*TRUTH, None], [*ANSWERS, pose(9.0)])
    assert result.queries == 5 and result.judged == 4 and result.answered == 0.8
    assert result.within == score(TRUTH, ANSWERS).within


def test_without_any_true_pose_there_are_no_shares():
    result = score([None], [pose(1.0)])
    assert result.answered == 1.0 and np.isnan(result.recall_at_1)


def test_both_metres_and_degrees_must_hold():
    assert score([pose(0.0)], [pose(0.1, 11.0)]).within["5 m 10°"] == 0.0


def test_thresholds_and_distances_can_be_chosen():
    criteria = Criteria(((1.0, 45.0),), 0.1, (0.15, 0.3))
    result = score(TRUTH, ANSWERS, criteria)
    assert result.within == {"1 m 45°": 0.5}
    assert result.accuracy == {"0.15 m": 0.0, "0.3 m": 0.5}
    assert result.recall_at_1 == 0.0


def test_accuracy_counts_what_lies_strictly_nearer():
    assert score([pose(0.0)], [pose(5.0)]).accuracy == {"5 m": 0.0, "10 m": 1.0, "15 m": 1.0}


def test_recall_at_n_looks_at_the_first_n_and_never_falls():
    far, near = pose(100.0), pose(0.0)
    rankings = [[near] + [far] * 9, [far] * 4 + [near] + [far] * 5, [far] * 9 + [near], []]
    result = score([pose(0.0)] * 4, [r[0] if r else None for r in rankings], rankings=rankings)
    assert result.recall == {"R@1": 0.25, "R@5": 0.5, "R@10": 0.75}


def test_recall_beyond_the_candidates_is_left_out():
    rankings = [[pose(0.0)] * 3]
    assert set(score([pose(0.0)], [pose(0.0)], rankings=rankings).recall) == {"R@1"}


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


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_precision_and_recall_equal_counting_at_every_threshold(rows):
    scores = np.array([s for s, _ in rows], float)
    right = np.array([r for _, r in rows])
    curve = precision_recall(scores, right, possible=len(rows))
    assert (np.diff(curve.thresholds) < 0).all()
    for threshold, precision, recall in zip(
        curve.thresholds, curve.precision, curve.recall, strict=True
    ):
        taken = scores >= threshold
        assert precision == pytest.approx(right[taken].mean())
        assert recall == pytest.approx(right[taken].sum() / len(rows))


def test_a_score_that_separates_has_full_recall_at_full_precision():
    curve = precision_recall(np.array([0.9, 0.8, 0.1]), np.array([True, True, False]), 2)
    assert curve.recall_at_full_precision == 1.0 and curve.area == pytest.approx(1.0)


def test_a_wrong_answer_on_top_leaves_no_recall_at_full_precision():
    curve = precision_recall(np.array([0.9, 0.8]), np.array([False, True]), 1)
    assert curve.recall_at_full_precision == 0.0


def test_errors_drawn_from_the_covariance_are_consistent_with_it():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * np.array([1, 1, 1, 0.01, 0.01, 0.01])[:, None]
    covariance = root @ root.T + 1e-9 * np.eye(6)
    answer = Transform.from_xyz_rpy([10, 5, 0, 0.1, -0.2, 1.0])
    truth = []
    for gap in rng.multivariate_normal(np.zeros(6), covariance, 4000):
        turn = Rotation.from_rotvec(gap[3:]) * Rotation.from_quat(answer.quaternion)
        truth.append(Transform(answer.translation + gap[:3], turn.as_quat()))
    figures = consistency([(pose, answer, covariance) for pose in truth])
    assert figures.position_mean == pytest.approx(1.0, abs=0.06)
    assert figures.position_median == pytest.approx(1.0, abs=0.06)
    assert figures.pose_mean == pytest.approx(1.0, abs=0.06)
    assert figures.plane_mean == pytest.approx(1.0, abs=0.06)
    assert figures.covered == pytest.approx(0.95, abs=0.015)


def test_a_covariance_that_is_too_small_shows_as_overconfidence():
    truth = [pose(x) for x in np.linspace(-2, 2, 50)]
    figures = consistency([(at, pose(0.0), np.eye(6) / 100) for at in truth])
    assert figures.position_mean > 10 and figures.covered < 0.5


def results(outcomes, name="night", **more):
    """The values of a results.json of which compare reads."""
    count = len(outcomes)
    metrics = {"answered": 1.0, "median_error_m": 1.0, "p90_error_m": 2.0}
    condition = {"metrics": metrics, "precision_recall": None, "consistency": None}
    condition["latency_ms"] = {"total": {"p50": 20.0, "p99": 30.0}}
    frames = {
        "condition": [name] * count,
        "camera": ["front"] * count,
        "stamp_ns": list(range(1, count + 1)),
        "outcome": ["known" if o is not None else "unknown" for o in outcomes],
        "error_m": list(outcomes),
        "error_deg": [0.0] * count,
        "judged": [True] * count,
    }
    criteria = {"thresholds": [[0.5, 5.0]], "recall_distance": 5.0, "distances": [5.0]}
    values = {"criteria": criteria, "conditions": {name: condition}, "overall": condition}
    return {**values, "frames": frames, **more}


def test_an_evaluation_equals_itself():
    a = results([0.1, 9.0] * 30)
    for difference in compare(a, a):
        assert difference.a == difference.b and difference.sign == 0


def test_a_difference_of_all_frames_is_clear_and_one_of_few_is_not():
    bad, good = results([9.0] * 60), results([0.1] * 60)
    shares = [d for d in compare(bad, good) if d.interval is not None]
    assert shares and all(d.sign == 1 for d in shares)
    slight = results([0.1] + [9.0] * 59)
    assert not any(d.sign for d in compare(bad, slight))


def test_an_unanswered_frame_counts_as_wrong():
    (within, *_) = compare(results([0.1] * 20), results([0.1] * 10 + [None] * 10))
    assert (within.a, within.b) == (1.0, 0.5)


def test_evaluations_that_share_nothing_are_refused():
    a = results([0.1] * 20)
    with pytest.raises(DatasetError, match="share no condition"):
        compare(a, results([0.1] * 20, name="snow"))
    with pytest.raises(DatasetError, match="criteria"):
        compare(a, results([0.1] * 20, criteria={**a["criteria"], "recall_distance": 3.0}))


def test_the_comparison_names_both_and_every_figure():
    console = Console(width=160)
    with console.capture() as capture:
        console.print(comparison_table(results([9.0] * 30), results([0.1] * 30), ("old", "new")))
    for words in ("old", "new", "within 0.5 m 5°", "latency p99", "+100.0"):
        assert words in capture.get()
