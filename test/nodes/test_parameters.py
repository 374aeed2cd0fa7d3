# SPDX-License-Identifier: Apache-2.0
"""ROS parameters follow the config dataclasses and their rules."""

import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from disam_ros.errors import ConfigError
from disam_ros.node_config import LocalizerNodeConfig, MapBuilderNodeConfig
from disam_ros.nodes.rclpy_extra import parameters


@pytest.fixture
def make_node(make_node):
    """Makes nodes of these parameters."""
    return lambda *parameters: make_node(*(word for p in parameters for word in ("-p", p)))


@pytest.mark.parametrize("cls", [LocalizerNodeConfig, MapBuilderNodeConfig])
def test_every_setting_becomes_a_parameter_with_a_description(make_node, cls):
    node = make_node()
    config = parameters.declare(node, cls)
    assert str(config) == str(cls())  # text: nan differs from itself
    for name in (name for name, _, _ in parameters.leaves(config)):
        descriptor = node.describe_parameter(name)
        assert descriptor.description, name
        assert descriptor.read_only, name


def test_given_values_reach_the_dataclass_under_dotted_names(make_node):
    node = make_node(
        "map:=/maps/m",
        "localizer.candidates:=7",
        "localizer.domain.weather:=snow",
        "cameras:=[a, b]",
        "base_from_camera:=[0, 0, 1, 0, 0, 0]",
    )
    config = parameters.declare(node, LocalizerNodeConfig)
    assert config.map == "/maps/m"
    assert config.cameras == ["a", "b"]
    assert config.base_from_camera[2] == 1.0  # a whole number for a float
    assert config.localizer.candidates == 7
    assert config.localizer.domain.weather == "snow"
    assert node.get_parameter("localizer.candidates").value == 7


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("nonsense:=1", "unknown name 'nonsense'"),
        ("localizer.candidate:=3", "did you mean 'localizer.candidates'"),
        ("localizer.candidates:=0", "expects a whole number, 1 … 1000; got 0"),
        ("localizer:=3", "'localizer' expects an object"),
        ("map:=3", "expects a text of up to 4096 characters; got 3"),
        ("image_transport:=radio", "one of raw, compressed"),
    ],
)
def test_wrong_parameters_are_refused_with_what_was_expected(make_node, argument, match):
    with pytest.raises(ConfigError, match=match):
        parameters.declare(make_node(argument), LocalizerNodeConfig)


def test_parameters_of_rclpy_itself_are_no_unknown_settings(make_node):
    node = make_node("use_sim_time:=true", "qos_overrides./image.subscription.depth:=3")
    parameters.declare(node, LocalizerNodeConfig)


def test_ranges_and_choices_stand_in_the_descriptors(make_node):
    node = make_node()
    parameters.declare(node, LocalizerNodeConfig)
    least = node.describe_parameter("localizer.min_probability").floating_point_range[0]
    assert (least.from_value, least.to_value) == (0.0, 1.0)
    candidates = node.describe_parameter("localizer.candidates").integer_range[0]
    assert (candidates.from_value, candidates.to_value) == (1, 1000)
    assert "compressed" in node.describe_parameter("image_transport").additional_constraints
    assert "nan" in node.describe_parameter("localizer.domain.latitude").additional_constraints


def test_changes_make_a_checked_copy():
    config = LocalizerNodeConfig()
    changed = parameters.with_changes(
        config, [Parameter("localizer.min_probability", value=0.5), Parameter("other", value=1)]
    )
    assert changed.localizer.min_probability == 0.5
    assert config.localizer.min_probability == 0.8
    with pytest.raises(ConfigError, match=", 0 … 1; got"):
        parameters.with_changes(config, [Parameter("localizer.min_probability", value=5.0)])
