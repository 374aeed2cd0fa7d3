# SPDX-License-Identifier: Apache-2.0
"""Laws of priors of the place in a localizer."""

from dataclasses import replace

import numpy as np
import pytest
from support.data import CAMERA, DESCRIPTOR, camera_pose, save_tiny_model, texture, write_dataset
from support.localize import describe, localize

from disam_ros.config import DomainConfig, LocalizerConfig, MapBuilderConfig, PriorConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage, open_dataset
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.prior import OFF_MAP, OVERRULED, USED, PositionPrior
from disam_ros.mapping.builder import build_map

COUNT = 60  # map images, one metre apart along x; image 50 looks like image 5
TWIN, ORIGINAL = 50, 5
SECOND = 10**9


def prior(x, y=0.0, sigma=2.0):
    return PositionPrior([x, y], sigma**2 * np.eye(2))


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A model and a map with two places that look the same."""
    folder = tmp_path_factory.mktemp("prior")
    model = save_tiny_model(folder / "model")
    looks = [ORIGINAL if i == TWIN else i for i in range(COUNT)]
    images = [
        PosedImage(
            ImageRecord(i, (i + 1) * SECOND, "front", "day", f"{i}", camera_pose(i)),
            lambda seed=seed: texture(seed),
        )
        for i, seed in enumerate(looks)
    ]
    source = ImageSource(images, DatasetInfo("twins", {"front": CAMERA}), "twins", COUNT)
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=DESCRIPTOR)
    return model, build_map(source, model, folder / "map", config, show_progress=False)


@pytest.fixture
def localizer(town, monkeypatch):
    """Evidence of 0.03 in similarity overrules a prior: an untrained model hardly discriminates."""
    monkeypatch.setattr("disam_ros.localization.candidates.TEMPERATURE", 0.01)
    monkeypatch.setattr("disam_ros.localization.candidates.SLACK", 0.5)
    settings = PriorConfig(outlier_ratio=0.05)
    domain = DomainConfig(override="day")
    return Localizer(
        *town, LocalizerConfig(device="cpu", candidates=3, domain=domain, prior=settings)
    )


def best(found):
    return found.best.record.id


def same(one, other):
    """Whether the same images were found, with the same scores but for rounding."""
    one, other = ({c.record.id: c.score for c in result.candidates} for result in (one, other))
    return one == pytest.approx(other, abs=1e-6)


def test_a_right_prior_tells_two_places_apart_that_look_the_same(localizer):
    for place in (ORIGINAL, TWIN):
        result = localize(localizer, texture(ORIGINAL), prior=prior(place + 1.0))
        assert best(result) == place and result.prior == USED
        others = [c.score for c in result.candidates if c.record.id in (ORIGINAL, TWIN)]
        assert others[0] > others[1]


def test_a_wrong_prior_gives_way_to_a_perfect_match_and_that_is_reported(localizer):
    result = localize(localizer, texture(30), prior=prior(10.0))
    assert best(result) == 30 and result.prior == OVERRULED
    assert result.best.prior_score == pytest.approx(0.01 * np.log(0.05), abs=1e-6)


def test_a_prior_off_the_map_is_reported_and_changes_nothing(localizer):
    for image in (texture(ORIGINAL), texture(99)):
        result = localize(localizer, image, prior=prior(20.0, 5000.0))
        assert result.prior == OFF_MAP and same(result, localize(localizer, image))
        assert all(c.prior_score == 0.0 for c in result.candidates)


def test_an_endless_deviation_and_an_outlier_ratio_of_one_change_nothing(localizer):
    for seed in (ORIGINAL, 17, 99, 100, 101):
        plain = localize(localizer, texture(seed))
        assert plain.prior == ""
        assert same(localize(localizer, texture(seed), prior=prior(20.0, sigma=1e7)), plain)
        mute = replace(localizer.config.prior, outlier_ratio=1.0)
        deaf = Localizer(localizer.model, localizer.map, replace(localizer.config, prior=mute))
        assert best(localize(deaf, texture(17), prior=prior(17.0))) == 17


def test_a_prior_is_widened_by_the_slack_and_half_the_maps_spacing(localizer):
    result = localize(localizer, texture(30), prior=prior(30.0, 2.0, sigma=0.01))
    assert result.prior == USED  # 200 deviations away, if the map were taken at its word
    square = 2.0**2 / (0.5**2 + 0.5**2 + 0.01**2)
    expected = 0.01 * np.log(0.95 * np.exp(-square / 2) + 0.05)
    assert result.best.prior_score == pytest.approx(expected, abs=1e-6)


def test_images_near_the_prior_are_candidates_even_where_the_map_has_better_ones(localizer):
    plain = {c.record.id for c in localize(localizer, texture(99)).candidates}
    near = localize(localizer, texture(99), prior=prior(40.0, sigma=1.0))
    ids = [c.record.id for c in near.candidates]
    assert plain < set(ids) and len(ids) == len(set(ids))
    assert all(abs(i - 40) <= 4 for i in set(ids) - plain)
    assert [c.score for c in near.candidates] == sorted(c.score for c in near.candidates)[::-1]


def test_a_place_is_likelier_where_the_prior_excludes_the_others(localizer, monkeypatch):
    monkeypatch.setattr("disam_ros.localization.candidates.TEMPERATURE", 0.05)

    def probability(near):
        return localize(localizer, texture(99), prior=near).probability

    believing = replace(localizer.config.prior, outlier_ratio=1e-9)
    localizer.config = replace(localizer.config, prior=believing)
    first = localize(localizer, texture(99)).record.id
    assert probability(prior(first)) > probability(None)


def test_a_query_searched_again_is_answered_as_a_new_one(localizer):
    query = describe(localizer, texture(99))
    for near in (None, prior(40.0)):
        one = localizer.rerank(query, localizer.search(query, localizer.config, near))
        other = localize(localizer, texture(99), prior=near).candidates
        assert np.array_equal(one.rows, other.rows) and one.effects == other.effects
        assert one.scores == pytest.approx(other.scores, abs=1e-6)


def test_far_more_images_near_a_prior_than_are_worth_comparing_leave_the_choice_to_the_map(
    localizer, monkeypatch
):
    monkeypatch.setattr("disam_ros.localization.candidates.MAX_GATED", 10)
    result = localize(localizer, texture(ORIGINAL), prior=prior(ORIGINAL, sigma=15.0))
    assert best(result) == ORIGINAL and len(result.candidates) == localizer.config.candidates


def test_a_prior_belongs_to_the_camera_that_is_asked_for(tmp_path, model, builder_config):
    data = write_dataset(tmp_path / "two", 6, cameras=("left", "right"))
    source = open_dataset(data.directory)
    place_map = build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
    result = localize(localizer, texture(1003), camera="right", prior=prior(3.0), domain="day")
    assert result.best.record.camera == "right" and result.prior == USED
    assert {c.record.camera for c in result.candidates} == {"right"}
