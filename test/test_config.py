# SPDX-License-Identifier: Apache-2.0
import pytest

from disam_ros.config import LocalizerConfig, LocalizerNodeConfig, MapBuilderConfig
from disam_ros.errors import ConfigError
from disam_ros.settings import from_dict, from_yaml


def test_defaults_come_from_an_empty_file(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert from_yaml(LocalizerConfig, path) == LocalizerConfig()


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
        ({"domain": {"colour": 1}}, "unknown setting 'domain.colour'"),
        ({"candidates": "three"}, "expects int, got 'three'"),
        ({"candidates": 0}, r"must lie in \[1, 1000\]"),
        ({"device": 3}, "expects str"),
        ({"domain": 3}, "expected key: value pairs"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(LocalizerConfig, values)


def test_a_choice_outside_the_list_is_refused():
    with pytest.raises(ConfigError, match="raw, compressed"):
        from_dict(LocalizerNodeConfig, {"image_transport": "telepathy"})


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not valid YAML"):
        from_yaml(LocalizerConfig, path)
