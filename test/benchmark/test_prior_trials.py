# SPDX-License-Identifier: Apache-2.0
"""Figures of simulated position priors."""

from dataclasses import replace

import numpy as np
import pytest
from support.data import CAMERA, DESCRIPTOR, camera_pose, of_single_images, save_tiny_model, texture

from benchmark.research.prior_trials import prior_figures
from disam_ros.config import DomainConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ImageError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map

COUNT, PERIOD = 80, 60  # map images, two metres apart; looks repeat after PERIOD of them
SHARE = 0.5  # of the query's pixels that are another image's


def place(index):
    return Transform(camera_pose(2 * index).translation, camera_pose(0).quaternion)


def route(looks, name):
    images = [
        PosedImage(ImageRecord(i, (i + 1) * 10**9, "front", "day", f"{i}", place(i)), look)
        for i, look in enumerate(looks)
    ]
    return ImageSource(images, DatasetInfo(name, {"front": CAMERA}), name, len(images))


def blurred(index):
    mixed = (1 - SHARE) * texture(index % PERIOD) + SHARE * texture(1000 + index)
    return mixed.astype(np.uint8)


@pytest.fixture(scope="module")
def localizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    model = save_tiny_model(folder / "model")
    source = route([lambda i=i: texture(i % PERIOD) for i in range(COUNT)], "map")
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=DESCRIPTOR)
    place_map = build_map(source, model, folder / "map", config, show_progress=False)
    settings = of_single_images(domain=DomainConfig(override="day"))
    with pytest.MonkeyPatch.context() as patch:  # an untrained model hardly discriminates
        patch.setattr("disam_ros.localization.candidates.TEMPERATURE", 0.01)
        yield Localizer(model, place_map, settings)


@pytest.fixture(scope="module")
def drive():
    return route([lambda i=i: blurred(i) for i in range(COUNT)], "drive")


def test_a_good_prior_helps_where_places_look_alike_and_a_poor_one_less(localizer, drive):
    none, exact, good, poor = prior_figures(localizer, drive, (0.0, 3.0, 300.0))
    assert (none.noise_m, none.overruled, none.off_map) == (None, 0.0, 0.0)
    assert none.recall_at_1 == none.local_recall_at_1
    assert exact.recall_at_1 >= good.recall_at_1 > none.recall_at_1 + 0.1
    assert exact.local_recall_at_1 > none.local_recall_at_1
    assert poor.local_recall_at_1 < good.local_recall_at_1
    assert none.queries == poor.queries == COUNT


def test_images_that_cannot_be_read_count_as_misses_and_those_without_truth_do_not(
    localizer, drive
):
    def broken():
        raise ImageError("broken")

    first, second, third, *_ = drive.images
    images = [
        first,
        replace(second, load=broken),
        replace(third, record=replace(third.record, map_from_camera=None)),
    ]
    _, exact = prior_figures(localizer, replace(drive, images=images), [0.0])
    assert exact.queries == 2 and exact.recall_at_1 == exact.local_recall_at_1 == 0.5
