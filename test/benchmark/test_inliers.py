# SPDX-License-Identifier: Apache-2.0
"""The measurement of inliers, on a small map of rendered scenes."""

from functools import partial

import numpy as np
from support.scene import CAMERA, pose, render

from benchmark.accuracy.inliers import inliers_of
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.geometry import Transform


def posed(number, seed, x):
    """An image of a scene, the scenes 100 m apart."""
    at = pose(x)
    record = ImageRecord(
        number,
        number * 10**9,
        "front",
        "summer_day",
        f"{number}.png",
        Transform(at.translation + [100.0 * seed, 0.0, 0.0], at.quaternion),
    )
    return PosedImage(record, partial(lambda: render(at, seed)[0]))


def test_more_keypoints_agree_at_the_right_place_than_off_the_map(tmp_path):
    mapped = [posed(seed, seed, 0.0) for seed in range(6)]
    queries = [posed(10 + seed, seed, 0.4) for seed in range(6)] + [posed(20, 30, 0.0)]
    info = DatasetInfo("scenes", {"front": CAMERA})
    source = ImageSource(mapped, info, "scenes", len(mapped))
    result = inliers_of(source, queries, "sift", tmp_path / "map")
    assert len(result.right) >= 5 and len(result.off) == 1
    assert np.median(result.right[:, 0]) > 40 > 20 > result.off[0, 0]
    assert (result.right[:, 1] >= 10.0).all()
