# SPDX-License-Identifier: Apache-2.0
"""Cameras whose images show the map only when turned by 180°."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from support.data import texture
from support.localize import process

from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.localization.checks import EVERY, WINS
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame

ENOUGH = EVERY * WINS  # images after which a turned camera is told


@pytest.fixture
def localizer(model, place_map):
    config = LocalizerConfig(device="cpu", domain=DomainConfig(override="day"), min_probability=1.0)
    return Localizer(model, place_map, config)  # no place is known


@pytest.fixture(params=[True, False], ids=["sequence", "single"])
def pipeline(request, localizer):
    localizer.config.sequence.enabled = request.param
    return Pipeline(localizer)


def upside_down(image):
    return np.ascontiguousarray(image[::-1, ::-1])


def verdicts(pipeline, images):
    return [
        process(pipeline, Frame(image, "front", (k + 1) * 10**8)).upside_down
        for k, image in enumerate(images)
    ]


def test_a_camera_that_is_upside_down_is_told_after_some_images(pipeline):
    told = verdicts(pipeline, [upside_down(texture(k % 12)) for k in range(ENOUGH + 2)])
    assert told == [False] * (ENOUGH - 1) + [True] * 3


def test_neither_an_upright_camera_nor_another_place_is_upside_down(pipeline):
    assert not any(verdicts(pipeline, [texture(k % 12) for k in range(2 * ENOUGH)]))
    assert not any(verdicts(pipeline, [texture(100 + k) for k in range(2 * ENOUGH)]))


def test_nothing_is_turned_while_places_are_known(localizer):
    localizer.config = replace(localizer.config, min_probability=0.0)
    images = [upside_down(texture(k % 12)) for k in range(2 * ENOUGH)]
    assert not any(verdicts(Pipeline(localizer), images))


def test_a_drive_whose_camera_is_upside_down_is_warned_of_once(localizer, dataset, caplog):
    source = open_dataset(dataset.directory)
    items = [
        replace(item, load=lambda load=item.load: upside_down(load()))
        for item in (*source.images, *source.images)
    ]
    with caplog.at_level(logging.WARNING):
        list(localize_drive(Pipeline(localizer), source, items))
    warnings = [record for record in caplog.records if "turned by 180°" in record.getMessage()]
    assert len(warnings) == 1 and "roll" in warnings[0].getMessage()
