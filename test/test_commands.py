# SPDX-License-Identifier: Apache-2.0
"""Options of the commands and settings of the nodes are of one mind."""

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import disam_ros
from disam_ros.cli import command_line, main
from disam_ros.cli.arguments import configured
from disam_ros.cli.parameters import NODES
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.errors import ConfigError, DisamError
from disam_ros.nodes.launching import refuse_unknown_arguments

ROOT = Path(__file__).parents[1]

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


def refusal(kind, text):
    """Why the parser of an option refuses a text; empty where it takes it."""
    try:
        kind(text)
    except (argparse.ArgumentTypeError, DisamError) as error:
        return str(error)
    return ""


def test_every_option_that_takes_a_number_refuses_what_is_none_or_out_of_its_range():
    checked = set()
    for parser in parsers(command_line()):
        for action in parser._actions:
            assert action.type not in (int, float), f"{parser.prog} {action.dest} has no range"
            if action.type is None or "number from" not in refusal(action.type, "nan"):
                continue
            checked.add(action.dest)
            for text in ("nan", "inf", "-inf", "1e300", "-1e300", "many"):
                assert f"got '{text}'" in refusal(action.type, text), f"{parser.prog} {action.dest}"
    assert {"candidates", "max_megapixels", "port", "rate", "seed", "threshold"} <= checked


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("localize a.jpg --map m --model m --candidates 0", "a whole number from 1 to 1000"),
        ("evaluate d --map m --model m --weather raspberry", "raspberry"),
        ("view --port 65536", "from 0 to 65535, got '65536'"),
        ("synth --output o --width 0", "from 16 to 8192, got '0'"),
        ("import-model f --name n --licence MIT --output o --input 0x9", "'0'"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_in_one_line_with_status_2(
    line, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and words in error
    assert error.startswith(f"disam {line.split()[0]}") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["buld-map"], "disam: unknown command 'buld-map' (did you mean 'build-map'?)"),
        (["map", "chek"], "disam map: unknown command 'chek' (did you mean 'check'?)"),
        (["--verson"], "disam: unknown option '--verson' (did you mean '--version'?)"),
        (
            ["build-map", "--datset", "d", "--output", "m"],
            "disam build-map: unknown option '--datset' (did you mean '--dataset'?)",
        ),
        (["view", "--prt=1"], "disam view: unknown option '--prt' (did you mean '--port'?)"),
        (["view", "--zzz"], "disam view: unknown option '--zzz'; see disam view --help"),
    ],
)
def test_a_misspelt_command_or_option_is_answered_with_the_nearest_one(line, words, capsys):
    with pytest.raises(SystemExit):
        command_line().parse_args(line)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("disam map ch", {"check"}),
        ("disam convert kitti-odometry --seq", {"--sequence"}),
    ],
)
def test_a_shell_completes_commands_and_options(line, words, tmp_path):
    pytest.importorskip("argcomplete")
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"IFS": "\013", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words")}
    command = [sys.executable, "-c", "from disam_ros.cli import main; main()"]
    subprocess.run(command, env={**os.environ, **asked}, check=True)
    assert {word.strip() for word in (tmp_path / "words").read_text().split("\013")} == words


@pytest.mark.parametrize(("domain", "warned"), [("nihgt", True), ("my_garage", False)])
def test_a_misspelt_domain_of_a_dataset_is_warned_of_before_the_bag_is_read(
    domain, warned, tmp_path, caplog
):
    line = ["extract", "--bag", "nowhere", "--output", str(tmp_path / "data"), "--domain", domain]
    assert main(line) == 1
    assert ("did you mean 'night'?" in caplog.text) == warned


def test_a_misspelt_argument_of_a_launch_file_is_refused(monkeypatch):
    line = ["ros2", "launch", "disam_ros", "map.launch.py", "modle:=outdoor"]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(ConfigError, match=r"argument modle:=outdoor: .* did you mean 'model'\?"):
        refuse_unknown_arguments("/share/launch/map.launch.py", {"map", "model"})
    refuse_unknown_arguments("/share/launch/map.launch.py", {"modle"})
    refuse_unknown_arguments("/share/launch/included.launch.py", {"map", "model"})


def test_training_is_a_command_in_a_checkout(monkeypatch, tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "recipe.yaml")]) == 1
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "go on from the last checkpoint" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(disam_ros, "__file__", str(tmp_path / "disam_ros" / "__init__.py"))
    monkeypatch.chdir(ROOT)  # installed elsewhere
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "go on from the last checkpoint" in " ".join(capsys.readouterr().out.split())
    monkeypatch.chdir(tmp_path)
    assert main(["train"]) == 1
    assert "disam train needs " in capsys.readouterr().err


def test_a_package_that_cannot_be_loaded_is_one_line_with_the_remedy(tmp_path):
    text = "lib.so: cannot open shared object file\nand where to read more"
    (tmp_path / "rclpy.py").write_text(f"raise ImportError({text!r})\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "from disam_ros.cli import main; sys.exit(main(['watch']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1
    assert "lib.so: cannot open shared object file; disam doctor names it" in ran.stderr
