# SPDX-License-Identifier: Apache-2.0
"""The measurement of inliers, on a small rendered scene."""

import numpy as np
import pytest
from support.scene import CAMERA, pose, render

from benchmark.accuracy import inliers
from benchmark.accuracy.inliers import Matching, Trial, View, similar


def view(x, seed=0, depth=True, far=0.0, around=()):
    pixels, metres = render(pose(x), seed)
    place = np.array([x + far, 0.0, 0.0])
    return View(pixels, place, pose(x), CAMERA, metres if depth else None, around)


@pytest.fixture(scope="module")
def scene():
    """Trials of two places 100 m apart, and their map images."""
    sample = [view(0.0), view(0.0, seed=3, far=100.0), view(0.0, seed=5, far=200.0)]
    queries = [view(0.4), view(0.4, seed=3, far=100.0)]
    trials = [
        Trial("day", query, (right,), similar(query, sample))
        for query, right in zip(queries, sample, strict=False)
    ]
    return trials, sample


def test_similar_images_are_of_other_places(scene):
    trials, sample = scene
    assert sample[0] not in similar(trials[0].query, sample)
    assert len(similar(trials[0].query, sample)) == 2


def test_an_outcome_has_more_inliers_at_the_right_place_and_a_small_error(scene):
    outcome = Matching("sift").outcome(scene[0][0], 300)
    assert outcome.right[0] > 40 > 15 > max(outcome.wrong)
    ((error, covariance, count, _),) = outcome.errors
    assert np.linalg.norm(error[:3]) < 0.05 and covariance.shape == (6, 6)
    assert count == outcome.right[0]


def test_keypoints_of_images_without_depth_maps_are_triangulated():
    around = tuple(view(x, depth=False) for x in (-1.0, 1.0))
    keypoints = Matching("sift").known(view(0.0, depth=False, around=around), 300)
    depths = keypoints.depths[np.isfinite(keypoints.depths)]
    assert len(depths) > 50 and 7 < np.median(depths) < 13


def test_the_table_and_the_models_are_printed(scene, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(inliers, "SETS", {"scene": lambda _: scene})
    monkeypatch.setattr(inliers, "COUNTS", (100, 300))
    monkeypatch.setattr(inliers, "CHOSEN", 300)
    inliers.main(tmp_path, ["sift"])
    printed = capsys.readouterr().out
    assert "| sift: scene, day | 300 | 100 |" in printed
    for what in ("sift InlierRatio", "sift PoseErrors"):
        assert what in printed
