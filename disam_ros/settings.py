# SPDX-License-Identifier: Apache-2.0
"""Typed settings: dataclass fields with help, unit and range; YAML without unknown keys."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from disam_ros.errors import ConfigError
from disam_ros.files.checking import build, range_words
from disam_ros.files.paths import expand

T = TypeVar("T")
REQUIRED: Any = dataclasses.MISSING  # default of a setting that has none


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    resolve: Callable[[str], str] | None = None,
) -> Any:
    """A dataclass field with a description and the range of its value.

    Numbers must be finite; nan is allowed only where it is the default. resolve: converts the text
    of a user, such as a path (files/paths.py), or raises ConfigError.
    """
    metadata: dict[str, Any] = {"help": help, "minimum": minimum, "maximum": maximum}
    metadata |= {"choices": choices, "resolve": resolve}
    metadata["unset"] = isinstance(default, float) and math.isnan(default)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def from_yaml(cls: type[T], path: Path | str) -> T:
    """Read a YAML file into a config dataclass; an empty one holds the defaults.

    Raises ConfigError, naming the file.
    """
    from disam_ros.files.yaml_files import read_yaml  # of no use to most commands

    values = read_yaml(expand(str(path)), ConfigError)
    return build(cls, {} if values is None else values, str(path))


def parameter_rows(cls: type, prefix: str = "") -> list[str]:
    """Tabulate the settings of a dataclass: rows `| name | default | range | description |`."""
    config, rows = cls(), []
    for item in dataclasses.fields(cls):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            rows += parameter_rows(type(value), f"{prefix}{item.name}.")
            continue
        default = str(value).lower() if isinstance(value, bool) else str(value) or '""'
        choices = ", ".join(f"`{choice}`" for choice in item.metadata["choices"])
        cells = f"`{prefix}{item.name}`", f"`{default}`", choices or range_words(item.metadata)
        rows.append(f"| {' | '.join(cells)} | {item.metadata['help']} |")
    return rows
