# SPDX-License-Identifier: Apache-2.0
"""Laws of odometry that jumps, and of what a sequence makes of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import texture
from support.localize import candidates_of, describe, process

from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.sequence.odometry import BACK, JUMP, JUMP_SLACK, OdometryTrack, Reading
from disam_ros.localization.sequence.tracker import Tracker

SECOND = 1_000_000_000


def at(x):
    return Transform.from_xyz_rpy([x, 0, 0, 0, 0, 0])


@given(speed=st.floats(0.0, 100.0), limit=st.floats(1.0, 100.0), tenths=st.integers(1, 50))
def test_odometry_has_jumped_exactly_when_nothing_drives_that_fast(speed, limit, tenths):
    track = OdometryTrack(SECOND, max_speed=limit)
    track.move(SECOND, at(5.0))
    seconds = tenths / 10
    metres = speed * seconds
    fault = track.move(SECOND + tenths * SECOND // 10, at(5.0 + metres))
    if abs(metres - limit * seconds - JUMP_SLACK) > 1e-6:
        assert fault == (JUMP if metres > limit * seconds + JUMP_SLACK else "")
    assert track.restarts == bool(fault)


def test_after_a_jump_or_a_clock_set_back_odometry_is_of_another_drive():
    track = OdometryTrack(SECOND, max_speed=20.0)
    moves = [(1, 0.0, ""), (2, 10.0, ""), (3, 500.0, JUMP), (4, 510.0, ""), (1, 0.0, BACK)]
    drives = []
    for second, x, fault in moves:
        assert track.move(second * SECOND, at(x)) == fault
        drives.append(track.reading(second * SECOND).drive)
    assert drives == [0, 0, 1, 1, 2]
    assert track.reading(3 * SECOND) is None  # of an earlier drive


@pytest.fixture
def localizer(model, place_map):
    config = LocalizerConfig(device="cpu", domain=DomainConfig(override="day"))
    return Localizer(model, place_map, config)


def test_between_drives_of_odometry_the_motion_of_a_sequence_is_unknown(localizer):
    def frame(index, second):
        return Frame(texture(index), "front", second * SECOND)

    def second(reading):
        pipeline = Pipeline(localizer, filter_model=FilterModel(radius=0.5))
        process(pipeline, frame(2, 1), Reading(at(0.0), 0.0, 0))
        return process(pipeline, frame(3, 2), reading).probability

    jumped, unknown = second(Reading(at(300.0), 0.0, 1)), second(None)
    assert jumped == pytest.approx(unknown)
    assert second(Reading(at(1.0), 1.0, 0)) != pytest.approx(unknown)


def test_a_repeated_image_is_no_evidence_and_doubt_grows(localizer):
    config = localizer.config
    tracker, query = Tracker(localizer), describe(localizer, texture(2), SECOND)
    candidates = candidates_of(localizer, query)
    before = tracker.predict(query, None, config).update(candidates).answer(config)
    for number in range(5):
        later = replace(query, frame=replace(query.frame, stamp_ns=(2 + number) * SECOND))
        step = tracker.predict(later, None, config, informative=False).update(candidates)
    after = step.answer(config)
    assert after.probability < before.probability
    assert np.isfinite(after.covariance).all()
