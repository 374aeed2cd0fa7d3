# SPDX-License-Identifier: Apache-2.0
"""Options of several commands. A value that cannot be is refused before any work, with what was
expected; type, default and help of a setting stand in the config dataclasses alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from disam_ros.config import LocalizerConfig
from disam_ros.errors import DomainError
from disam_ros.files.checking import build
from disam_ros.files.paths import expand
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.settings import REQUIRED, from_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
S = TypeVar("S", bound="DataclassInstance")
AS_CONFIGURED = "that of --config"

SEED = 2**32 - 1  # the largest that every random generator takes
LARGEST_SIDE = 4096  # of a network's images [px]
SIDE = 8192  # of an image that is rendered [px]
MODEL_HELP = "model directory, or the name of a shipped model, such as outdoor"


def number(low: float, high: float) -> Callable[[str], float]:
    """A finite number in [low, high]."""

    def parse(text: str) -> float:
        return float(_in_range(float, text, low, high, "a number"))

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number in [low, high]."""

    def parse(text: str) -> int:
        return int(_in_range(int, text, low, high, "a whole number"))

    return parse


def weather(text: str) -> str:
    """A weather word or phrase."""
    from disam_ros.domains.sun import parse_weather

    try:
        parse_weather(text)
    except DomainError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _in_range(kind: type, text: str, low: float, high: float, what: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:  # nan neither
        bounds = " to ".join(str(v) if isinstance(v, int) else f"{v:g}" for v in (low, high))
        raise argparse.ArgumentTypeError(f"expected {what} from {bounds}, got '{text[:40]}'")
    return value


def add_setting(
    command: argparse._ActionsContainer,
    config: type,
    name: str,
    *,
    option: str = "",
    unset: str = "",
    parse: Callable[[str], Any] | None = None,
) -> None:
    """Add the option of a setting, with type, default and help of its field of a dataclass.

    name: with dots where the field is of a group. option: without dashes; default: the last part of
    the name. unset: in words, what holds without the option, whose default then is None. parse: of
    a text that has to be checked.
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
    """Add the options of all settings of a dataclass."""
    for field in fields(config):
        add_setting(command, config, field.name)


def settings_of(config: type[S], arguments: argparse.Namespace) -> S:
    """Build a dataclass of the options that `add_settings` made. Raises ConfigError."""
    return build(config, {field.name: getattr(arguments, field.name) for field in fields(config)})


def _parser_of(kind: type, limits: Mapping[str, Any]) -> Callable[[str], Any] | None:
    """Return what reads a setting's value; None: a text."""
    if kind is str:
        return None
    return (whole if kind is int else number)(limits["minimum"], limits["maximum"])


def add_config(command: argparse.ArgumentParser, what: str, node: str) -> None:
    """The option --config, a file of settings. node: whose parameters they are."""
    command.add_argument(
        "--config", default="", help=f"YAML file of {what} settings (disam parameters {node})"
    )


def add_localizer_settings(command: argparse.ArgumentParser) -> None:
    """The options of a command that localizes: a file of settings, and some settings."""
    add_config(command, "localizer", "localizer")
    for name, option in (("domain.override", "domain"), ("device", ""), ("candidates", "")):
        add_setting(command, LocalizerConfig, name, option=option, unset=AS_CONFIGURED)
    add_setting(command, LocalizerConfig, "domain.weather", unset=AS_CONFIGURED, parse=weather)


def configured(config: type[T], arguments: argparse.Namespace) -> T:
    """The settings of --config, overridden by the options that `add_setting` made."""
    result = from_yaml(config, arguments.config) if arguments.config else config()
    _override(result, vars(arguments))
    return result


def _override(config: Any, options: Mapping[str, Any], prefix: str = "") -> None:
    """Set the fields that options name, in place; None: not given."""
    for field in fields(config):
        name = prefix + field.name
        if is_dataclass(getattr(config, field.name)):
            _override(getattr(config, field.name), options, f"{name}.")
        elif options.get(name) is not None:
            setattr(config, field.name, options[name])


def add_image_limit(command: argparse.ArgumentParser) -> None:
    """The option --max-megapixels of a command that reads images."""
    add_setting(command, LocalizerNodeConfig, "max_megapixels")
