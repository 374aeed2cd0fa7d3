# SPDX-License-Identifier: Apache-2.0
"""Options of several commands, and checks of their values.

Type, default and help of a setting stand in the config dataclasses alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from disam_ros.config import LocalizerConfig
from disam_ros.errors import DomainError
from disam_ros.files.checking import build
from disam_ros.files.paths import expand, find_model
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.settings import REQUIRED, from_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

N = TypeVar("N", int, float)
S = TypeVar("S", bound="DataclassInstance")
AS_CONFIGURED = "that of --config"

SEED = 2**32 - 1  # the largest seed that every random generator takes
LARGEST_SIDE = 4096  # largest side of a network's images [px]
SIDE = 8192  # largest side of an image that is rendered [px]
MODEL_HELP = "model directory, or the name of a shipped model, such as outdoor"
SHARED: dict[str, dict[str, Any]] = {  # options and arguments of several commands
    "map": {"help": "map directory"},
    "--map": {"required": True, "help": "map directory"},
    "--model": {"type": find_model, "required": True, "help": MODEL_HELP},
    "--bag": {"required": True, "help": "rosbag2 directory or .mcap/.db3 file"},
    "--dataset": {"required": True, "help": "dataset directory"},
    "--pose-topic": {
        "default": "",
        "help": "topic of the poses in a bag; default: ground truth, else the best one recorded",
    },
    "--dataset-domains": {"action": "store_true", "help": "use the domain names of a dataset"},
    "--ray": {
        "default": "",
        "help": "encode on a Ray cluster: its address, 'auto' or 'local'",
    },
    "--node": {"default": "/localizer", "help": "name of the localizer with its namespace"},
}


def add(
    command: argparse._ActionsContainer,
    name: str,
    text: str,
    kind: Callable[[str], Any] | None = None,
    **details: Any,
) -> None:
    """Adds an option or an argument to a command or a group.

    kind: parser of its value; bool: a flag; None: a text, which is empty by default. details: of
    argparse.
    """
    if kind is bool:
        command.add_argument(name, action="store_true", help=text)
        return
    default = "" if kind is None and "nargs" not in details else None
    command.add_argument(name, type=kind or expand, help=text, **{"default": default, **details})


def add_shared(command: argparse.ArgumentParser, *names: str) -> None:
    """Adds options of SHARED."""
    for name in names:
        command.add_argument(name, **SHARED[name])


def number(low: float, high: float) -> Callable[[str], float]:
    """Returns a parser of finite numbers in [low, high]."""
    return partial(_in_range, float, low, high, "a number")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Returns a parser of whole numbers in [low, high]."""
    return partial(_in_range, int, low, high, "a whole number")


def weather(text: str) -> str:
    """Checks a weather word or phrase."""
    from disam_ros.domains.domain import parse_weather

    try:
        parse_weather(text)
    except DomainError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _in_range(kind: type[N], low: float, high: float, words: str, text: str) -> N:
    with suppress(ValueError):
        value = kind(text)
        if low <= value <= high:  # nan is not
            return value
    bounds = " to ".join(str(v) if isinstance(v, int) else f"{v:g}" for v in (low, high))
    raise argparse.ArgumentTypeError(f"expected {words} from {bounds}, got '{text[:40]}'")


def add_setting(
    command: argparse._ActionsContainer,
    config: type,
    name: str,
    *,
    option: str = "",
    unset: str = "",
    parse: Callable[[str], Any] | None = None,
) -> None:
    """Adds the option of a setting, with type, default and help of its field of a dataclass.

    name: with dots where the field is of a group. option: without dashes; default: the last part of
    the name. unset: what holds without the option, in words; its default is None then. parse:
    checks a text.
    """
    *groups, last = name.split(".")
    owner: Any = config
    for group in groups:
        owner = get_type_hints(owner)[group]
    (field,) = (field for field in fields(owner) if field.name == last)
    kind, default, text = get_type_hints(owner)[last], field.default, field.metadata["help"]
    if unset == AS_CONFIGURED and default != "":
        unset += f", else {default}"
    option = option or last.replace("_", "-")
    if kind is bool:
        command.add_argument(f"--{option}", dest=name, action="store_true", help=text)
        return
    several = get_origin(kind) is tuple
    choices = field.metadata["choices"] or None
    command.add_argument(
        f"--{option}",
        dest=name,
        metavar=None if choices else option.replace("-", "_").upper(),
        type=parse or _parser_of(get_args(kind)[0] if several else kind, field.metadata) or expand,
        nargs="+" if several else None,
        choices=choices,
        required=default is REQUIRED,
        default=None if unset or default is REQUIRED else default,
        help=f"{text}; default: {unset}" if unset else text,
    )


def add_settings(command: argparse._ActionsContainer, config: type) -> None:
    """Adds the options of all settings of a dataclass."""
    for field in fields(config):
        add_setting(command, config, field.name)


def settings_of(config: type[S], arguments: argparse.Namespace) -> S:
    """Builds a dataclass from the options that `add_settings` made. Raises ConfigError."""
    return build(config, {field.name: getattr(arguments, field.name) for field in fields(config)})


def _parser_of(kind: type, limits: Mapping[str, Any]) -> Callable[[str], Any] | None:
    """Returns the parser of a setting's value; None for a text."""
    if kind is str:
        return None
    return (whole if kind is int else number)(limits["minimum"], limits["maximum"])


def add_config(command: argparse.ArgumentParser, node: str) -> None:
    """Adds the option --config, a file of settings. node: the settings are its parameters."""
    help_text = f"YAML file of {node.replace('_', ' ')} settings (disam parameters {node})"
    command.add_argument("--config", default="", help=help_text)


def add_localizer_settings(command: argparse.ArgumentParser) -> None:
    """Adds the options of a command that localizes: a file of settings, and single settings."""
    add_config(command, "localizer")
    for name, option in (("domain.override", "domain"), ("device", ""), ("candidates", "")):
        add_setting(command, LocalizerConfig, name, option=option, unset=AS_CONFIGURED)
    add_setting(command, LocalizerConfig, "domain.weather", unset=AS_CONFIGURED, parse=weather)


def configured(config: type[S], arguments: argparse.Namespace) -> S:
    """Returns the settings of --config, overridden by the options that `add_setting` made."""
    result = from_yaml(config, arguments.config) if arguments.config else config()
    return _overridden(result, vars(arguments))


def _overridden(config: S, options: Mapping[str, Any], prefix: str = "") -> S:
    """Returns the settings with those that options name; None leaves a setting."""
    changes = {}
    for field in fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = _overridden(value, options, f"{name}.")
        elif options.get(name) is not None:
            changes[field.name] = options[name]
    return replace(config, **changes)


def add_image_limit(command: argparse.ArgumentParser) -> None:
    """Adds the option --max-megapixels of a command that reads images."""
    add_setting(command, LocalizerNodeConfig, "max_megapixels")
