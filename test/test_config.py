# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import get_type_hints

import pytest

from disam_ros.cli.parameters import NODES
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.errors import ConfigError
from disam_ros.files.checking import build
from disam_ros.node_config import LocalizerNodeConfig, MapBuilderNodeConfig
from disam_ros.settings import from_yaml


def test_defaults_come_from_an_empty_file(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert repr(from_yaml(LocalizerConfig, path)) == repr(LocalizerConfig())  # nan is not nan


def test_nested_values_are_read(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("keyframe_distance: 2\ndescriptor:\n  fine_grid: 12\n")
    config = from_yaml(MapBuilderConfig, path)
    assert config.keyframe_distance == 2.0
    assert config.descriptor.fine_grid == 12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"candidats": 3}, "did you mean 'candidates'"),
        ({"odometry_noise": 1}, "did you mean 'sequence.odometry_noise'"),
        ({"domain": {"colour": 1}}, "unknown name 'domain.colour'"),
        ({"candidates": "three"}, "expects a whole number, 1 … 1000; got 'three'"),
        ({"candidates": 0}, "expects a whole number, 1 … 1000; got 0"),
        ({"device": 3}, "expects a text of up to 4096 characters; got 3"),
        ({"domain": 3}, r"'domain' expects an object \(key: value pairs\); got 3"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(values, message):
    with pytest.raises(ConfigError, match=message):
        build(LocalizerConfig, values)


def test_a_choice_outside_the_list_is_refused():
    with pytest.raises(ConfigError, match="raw, compressed"):
        build(LocalizerNodeConfig, {"image_transport": "telepathy"})


@pytest.mark.parametrize("name", ["", " ", "/base_link"])
def test_a_frame_that_tf_cannot_have_is_refused_by_name(name):
    for config in (LocalizerNodeConfig, MapBuilderNodeConfig):
        with pytest.raises(ConfigError, match=r"'base_frame': expected .* without a leading '/'"):
            build(config, {"base_frame": name})


def numbers(cls):
    """Fields of a config dataclass, and of those in it, that are numbers or lists of them."""
    for item in fields(cls):
        kind = get_type_hints(cls)[item.name]
        if is_dataclass(kind):
            yield from numbers(kind)
        elif kind in (int, float, list[int], list[float]):
            yield pytest.param(item, kind, id=f"{cls.__name__}.{item.name}")


@pytest.mark.parametrize(("item", "kind"), [p for c in NODES.values() for p in numbers(c)])
def test_every_number_has_a_range_and_must_be_finite(item, kind):
    low, high = item.metadata["minimum"], item.metadata["maximum"]
    assert low is not None and high is not None and low <= high <= 1e9
    config = make_dataclass("Config", [(item.name, kind, field(metadata=item.metadata))])
    unset = isinstance(item.default, float) and math.isnan(item.default)
    values = [1e300, -1e300, math.inf, -math.inf] + ([] if unset else [math.nan])
    for value in [(2**62)] if kind is int else values:
        given = [value] if kind in (list[int], list[float]) else value
        with pytest.raises(ConfigError, match=f"'{item.name}' expects"):
            build(config, {item.name: given})


def test_a_text_without_end_is_refused_by_its_length():
    expected = r"'output' expects a text of up to 4096 characters; got 'x{12}\.\.\.x{13}'$"
    with pytest.raises(ConfigError, match=expected):
        build(MapBuilderNodeConfig, {"output": "x" * 100_000})
