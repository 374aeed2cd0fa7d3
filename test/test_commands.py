# SPDX-License-Identifier: Apache-2.0
"""Options of the commands and settings of the nodes are of one mind."""

import argparse
import dataclasses

import pytest

from disam_ros.cli import command_line
from disam_ros.cli.arguments import configured
from disam_ros.cli.parameters import NODES
from disam_ros.config import LocalizerConfig, MapBuilderConfig

# Options that name no setting: of the images that are written, and of the data that are read.
OTHERS = {("disam aerial", "domain")}


def parsers(parser):
    """The parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


def settings(config):
    """(name, default) of the settings of a config dataclass and its groups, paths left out."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value)
        elif not field.metadata["resolve"]:
            yield field.name, value


def test_no_option_has_another_default_than_the_setting_of_its_name():
    defaults = {}
    for name, default in (pair for node in NODES.values() for pair in settings(node())):
        defaults.setdefault(name, []).append(default)
    seen = set()
    for parser in parsers(command_line()):
        for action in parser._actions:
            for option in action.option_strings:
                name = option.lstrip("-").replace("-", "_")
                if name not in defaults or (parser.prog, name) in OTHERS:
                    continue
                seen.add(name)
                default = action.default
                assert default in (None, "") or default in defaults[name], f"{parser.prog} {option}"
    assert {"candidates", "device", "weather", "domain", "keypoints"} <= seen
    assert {"keyframe_distance", "field_of_view", "max_megapixels", "max_pose_gap"} <= seen


@pytest.mark.parametrize("command", ["localize", "evaluate"])
def test_options_override_the_file_of_settings_and_leave_the_rest(command, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(
        "candidates: 7\nmin_probability: 0.3\ndomain: {override: night, weather: fog}\n"
    )
    line = [command, "drive", "--map", "map", "--model", "model"]
    plain = command_line().parse_args(line)
    assert repr(configured(LocalizerConfig, plain)) == repr(LocalizerConfig())
    options = ["--config", str(file), "--domain", "day", "--candidates", "5"]
    config = configured(LocalizerConfig, command_line().parse_args([*line, *options]))
    assert (config.candidates, config.min_probability) == (5, 0.3)
    assert (config.domain.override, config.domain.weather) == ("day", "fog")


def test_options_of_a_map_override_its_file_of_settings_even_with_zero(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("keypoints: 512\nkeyframe_distance: 2.0\n")
    line = ["build-map", "--bag", "bag", "--model", "model", "--output", "map", "--keypoints", "0"]
    config = configured(MapBuilderConfig, command_line().parse_args([*line, "--config", str(file)]))
    assert (config.keypoints, config.keyframe_distance) == (0, 2.0)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_does_not_exist_is_refused(port, capsys):
    with pytest.raises(SystemExit):
        command_line().parse_args(["view", "--port", port])
    assert f"expected a whole number from 0 to 65535, got '{port}'" in capsys.readouterr().err
