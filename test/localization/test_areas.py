# SPDX-License-Identifier: Apache-2.0
"""Laws of the choice among several maps."""

import pytest
from support.data import save_tiny_model, write_dataset

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError, MapError
from disam_ros.localization.areas import AGREEING, Areas
from disam_ros.mapping.builder import MapBuilder

METRE = 1.0 / 111_195.0  # degrees of latitude


def write_map(root, name, latitude, model):
    data = write_dataset(root / f"{name}_data", 4)
    source = open_dataset(data.directory)
    info = source.info.__class__(name, source.info.cameras, "map", latitude, 9.0)
    with MapBuilder(info, model, root / name, MapBuilderConfig(keypoints=0)) as builder:
        for item in source.images:
            builder.add(item)
        builder.finish()
    return str(root / name)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("areas")
    model = save_tiny_model(root / "model")
    return [write_map(root, f"map_{k}", 48.0 + 0.1 * k, model) for k in range(2)], model, root


def choose(areas, latitude, current, times):
    return [areas.choose(latitude, 9.0, current) for _ in range(times)][-1]


def test_several_fixes_in_a_row_on_another_map_take_it_and_fewer_do_not(world):
    (first, second), *_ = world
    areas = Areas([first, second])
    assert choose(areas, 48.1, first, AGREEING - 1) == first
    assert choose(areas, 48.0, first, 1) == first  # back: the count begins anew
    assert choose(areas, 48.1, first, AGREEING - 1) == first
    assert choose(areas, 48.1, first, 1) == second


def test_the_map_in_use_stays_where_it_has_images_or_none_has(world):
    (first, second), *_ = world
    areas = Areas([first, second])
    assert choose(areas, 48.0 + 20 * METRE, first, 9) == first
    for latitude in (48.05, 60.0, -48.0):
        assert choose(areas, latitude, first, 9) == first


def test_of_a_map_that_is_not_listed_the_vehicle_drives_onto_one_that_is(world):
    (first, second), *_ = world
    assert choose(Areas([second]), 48.1, first, AGREEING) == second


def test_a_map_without_a_place_on_earth_and_one_that_is_none_are_named(world):
    _, model, root = world
    nowhere = write_map(root, "nowhere", None, model)
    with pytest.raises(ConfigError, match="nowhere has no latitude and longitude"):
        Areas([nowhere])
    with pytest.raises(MapError, match="not a map"):
        Areas([str(root / "missing")])
