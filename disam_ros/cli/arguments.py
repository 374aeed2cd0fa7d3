# SPDX-License-Identifier: Apache-2.0
"""Types of options: a value that cannot be is refused before any work, with what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from disam_ros.errors import DomainError
from disam_ros.node_config import LocalizerNodeConfig

SEED = 2**32 - 1  # the largest that every random generator takes
LARGEST_SIDE = 4096  # of a network's images [px]
SIDE = 8192  # of an image that is rendered [px]
MODEL_HELP = "model directory, or the name of a shipped model, such as outdoor"


def number(low: float, high: float) -> Callable[[str], float]:
    """A finite number in [low, high]."""

    def parse(text: str) -> float:
        return _in_range(float, text, low, high, "a number")

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number in [low, high]."""

    def parse(text: str) -> int:
        return _in_range(int, text, low, high, "a whole number")

    return parse


def of_setting(config: type, name: str) -> Callable[[str], Any]:
    """A number in the range of a field of a config dataclass."""
    (metadata,) = (field.metadata for field in fields(config) if field.name == name)
    make = whole if isinstance(getattr(config(), name), int) else number
    return make(metadata["minimum"], metadata["maximum"])


def add_image_limit(command: argparse.ArgumentParser) -> None:
    """The option --max-megapixels of a command that reads images."""
    command.add_argument(
        "--max-megapixels",
        type=of_setting(LocalizerNodeConfig, "max_megapixels"),
        default=LocalizerNodeConfig.max_megapixels,
        help="size of an image above which it is refused [megapixels]",
    )


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
