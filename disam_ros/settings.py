# SPDX-License-Identifier: Apache-2.0
"""Typed settings: dataclass fields with help, unit and range; YAML without unknown keys."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import field
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from disam_ros.errors import ConfigError
from disam_ros.files.reading import MAX_TEXT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    resolve: Callable[[str], str] | None = None,
) -> Any:
    """A dataclass field with a description and the range its value must lie in.

    Numbers must be finite; nan is one only where it is the default. resolve: makes the value of
    what a user writes, such as a path (files/paths.py), or raises ConfigError.
    """
    metadata: dict[str, Any] = {"help": help, "minimum": minimum, "maximum": maximum}
    metadata |= {"choices": choices, "resolve": resolve}
    metadata["unset"] = isinstance(default, float) and math.isnan(default)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build a config dataclass; unknown keys, wrong types and values out of range are errors.

    Raises ConfigError naming the key, what was expected and what was found.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"{where or cls.__name__}: expected key: value pairs, got {brief(values)}"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        name = f"{where}.{key}" if where else key
        if key not in fields:
            near = get_close_matches(str(key), fields, 1) or _of_that_name(cls, key)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(fields)}"
            raise ConfigError(f"unknown setting '{name}'; {hint}")
        if dataclasses.is_dataclass(hints[key]):
            arguments[key] = from_dict(hints[key], value, name)
        else:
            arguments[key] = _checked(value, hints[key], fields[key].metadata, name)
    return cls(**arguments)


def _of_that_name(cls: type[DataclassInstance], key: str) -> list[str]:
    """Dotted names of the settings called `key`, in this dataclass and those below it."""
    hints, found = get_type_hints(cls), []
    for inner in dataclasses.fields(cls):
        kind = hints[inner.name]
        if inner.name == key:
            found.append(key)
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            found += [f"{inner.name}.{name}" for name in _of_that_name(kind, key)]
    return found


def from_yaml(cls: type[T], path: Path | str) -> T:
    """Read a YAML file into a config dataclass; an empty one holds the defaults.

    Raises ConfigError, naming the file.
    """
    from disam_ros.files.yaml_files import read_yaml  # of no use to most commands

    values = read_yaml(Path(path).expanduser(), ConfigError, nan=True)  # nan may mean unset
    try:
        return from_dict(cls, {} if values is None else values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parameter_rows(cls: type, prefix: str = "") -> list[str]:
    """Every setting of a config dataclass as a row `| name | default | range | description |`."""
    config, rows = cls(), []
    for item in dataclasses.fields(cls):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            rows += parameter_rows(type(value), f"{prefix}{item.name}.")
            continue
        default = str(value).lower() if isinstance(value, bool) else str(value) or '""'
        cells = (f"`{prefix}{item.name}`", f"`{default}`", _range(item.metadata))
        rows.append(f"| {' | '.join(cells)} | {item.metadata['help']} |")
    return rows


def _range(metadata: Mapping[str, Any]) -> str:
    """The values that a setting may have, for people; empty: any of its type."""
    low, high = metadata["minimum"], metadata["maximum"]
    if metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    if low is not None and high is not None:
        return f"{low:g} … {high:g}"
    if low is not None:
        return f"≥ {low:g}"
    return "" if high is None else f"≤ {high:g}"


def _checked(value: Any, kind: Any, metadata: Any, name: str) -> Any:
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"'{name}' expects a list, got {brief(value)}")
        return [_checked(v, item, metadata, name) for v in value]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not kind:
        raise ConfigError(f"'{name}' expects {kind.__name__}, got {brief(value)}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ConfigError(
            f"'{name}' expects a text of up to {MAX_TEXT} characters, got {len(value)}"
        )
    low, high, choices = (metadata.get(k) for k in ("minimum", "maximum", "choices"))
    if kind is float and not math.isfinite(value):
        if math.isnan(value) and metadata["unset"]:
            return value
        raise ConfigError(f"'{name}' must be a finite number, got {brief(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"'{name}' must lie in [{low}, {high}], got {brief(value)}")
    if choices and value not in choices:
        raise ConfigError(f"'{name}' must be one of {', '.join(choices)}, got {brief(value)}")
    resolve = metadata.get("resolve")
    try:
        return value if resolve is None else resolve(value)
    except ConfigError as error:
        raise ConfigError(f"'{name}': {error}") from error
