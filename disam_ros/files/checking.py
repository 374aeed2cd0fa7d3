# SPDX-License-Identifier: Apache-2.0
"""The validator of JSON, YAML and ROS parameters: plain values in, typed values out.

Type hints say what a value must be, the metadata of a field (settings.py) its range. A fault is one
sentence, `WHERE: 'NAME' expects WHAT; got WHAT`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from reprlib import repr as brief
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from disam_ros.errors import ConfigError, DisamError

T = TypeVar("T")

MAX_WHOLE = 2**63  # magnitude of a whole number
MAX_TEXT = 4096  # characters of a text, such as a path
OBJECT = "an object (key: value pairs)"
NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: f"a text of up to {MAX_TEXT} characters",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}  # what a kind is called in a message
NO_LIMITS: Mapping[str, Any] = {}


def build(cls: type[T], values: Any, where: str = "", error: type[DisamError] = ConfigError) -> T:
    """Make a dataclass, and those that are its fields, of an object read from a file.

    Fields with a default may be missing. Lists become tuples where a hint says so, and whole
    numbers floats. Raises `error`, naming `where` and the field; an error of the dataclass itself
    passes.
    """
    with _located(where, error):
        built: T = _entry(values, cls, "", NO_LIMITS)
        return built


def check_entries(
    values: Any,
    kinds: Mapping[str, Any],
    where: str,
    error: type[DisamError],
    closed: bool = False,
) -> dict[str, Any]:
    """Return an object read from a file, its entries checked and converted as `build` does.

    kinds: type hints by key; an entry that may be None may be missing and is None then. closed:
    other keys are refused. Raises `error`, naming `where` and the key.
    """
    with _located(where, error):
        if not isinstance(values, dict):
            keys = ", ".join(kinds)
            raise _Fault(f"expected an object with the keys {keys}; got {brief(values)}")
        if closed:
            _refuse_unknown(values, kinds)
        return values | {
            key: _entry(values.get(key), kind, key, NO_LIMITS, key in values)
            for key, kind in kinds.items()
        }


def unknown_name(name: object, names: Collection[str]) -> str:
    """The message about a name that is not among `names`, with the nearest of these."""
    near = get_close_matches(str(name), names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(names) or 'none'}"
    return f"unknown name '{name}'; {hint}"


class _Fault(Exception):
    """A fault whose message names the value."""


class _Unfit(Exception):
    """A value is not of its kind; whoever knows its name makes the message."""


@contextmanager
def _located(where: str, error: type[DisamError]) -> Iterator[None]:
    """Turn faults into `error`, naming `where`."""
    try:
        yield
    except _Fault as fault:
        raise error(f"{where}: {fault}" if where else str(fault)) from fault


def _entry(
    value: Any, kind: Any, name: str, limits: Mapping[str, Any], present: bool = True
) -> Any:
    """The value of an entry as its kind. Raises _Fault, naming it."""
    try:
        return _converted(value, kind, name, limits)
    except _Unfit as fault:
        subject = f"'{name}' expects" if name else "expected"
        state = f"got {brief(value)}" if present else "it is missing"
        raise _Fault(f"{subject} {_words(kind, limits)}; {state}") from fault


def _converted(value: Any, kind: Any, name: str, limits: Mapping[str, Any]) -> Any:
    """A value as its kind. Raises _Unfit, or _Fault about a value in it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for part in parts:
            try:
                return _converted(value, part, name, limits)
            except _Unfit:
                continue
        raise _Unfit
    if is_dataclass(kind):
        return _built(kind, value, name)
    if origin is dict and isinstance(value, dict):
        return {key: _converted(item, parts[1], name, limits) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list | tuple):
        kinds = parts if parts[-1] is not Ellipsis and origin is tuple else parts[:1] * len(value)
        if len(kinds) != len(value):
            raise _Unfit
        return origin(
            _converted(item, part, f"{name}.{index}", limits)
            for index, (item, part) in enumerate(zip(value, kinds, strict=True))
        )
    return value if kind is Any else _scalar(value, kind, name, limits)


def _built(cls: Any, values: Any, name: str) -> Any:
    """A dataclass of an object. Raises _Unfit, or _Fault about an entry."""
    if not isinstance(values, dict):
        raise _Unfit
    by_name, hints = {field.name: field for field in fields(cls)}, get_type_hints(cls)
    prefix = f"{name}." if name else ""
    _refuse_unknown(values, by_name, prefix, cls)
    return cls(
        **{
            key: _entry(values.get(key), hints[key], prefix + key, field.metadata, key in values)
            for key, field in by_name.items()
            if key in values or field.default is field.default_factory is MISSING
        }
    )


def _scalar(value: Any, kind: Any, name: str, limits: Mapping[str, Any]) -> Any:
    """A number, text or the like. Raises _Unfit, or _Fault where a text cannot be resolved."""
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        value = float(value)
    if type(value) is not kind or ((choices := limits.get("choices")) and value not in choices):
        raise _Unfit
    if kind in (int, float):
        low, high = limits.get("minimum"), limits.get("maximum")
        unset = kind is float and math.isnan(value) and limits.get("unset")
        finite = abs(value) <= MAX_WHOLE if kind is int else math.isfinite(value)
        within = (low is None or value >= low) and (high is None or value <= high)
        if not unset and not (finite and within):
            raise _Unfit
    if kind is str:
        if len(value) > MAX_TEXT:
            raise _Unfit
        if (resolve := limits.get("resolve")) is not None:
            try:
                return resolve(value)
            except ConfigError as error:
                raise _Fault(f"'{name}': {error}") from error
    return value


def _refuse_unknown(
    values: Mapping[Any, Any], names: Collection[str], prefix: str = "", cls: Any = None
) -> None:
    """Raise _Fault for a key that is not among the names."""
    for key in values:
        if key not in names:
            elsewhere = [] if cls is None else _fields_named(cls, key)
            if not get_close_matches(str(key), names, 1) and elsewhere:
                names = elsewhere
            raise _Fault(unknown_name(f"{prefix}{key}", [prefix + name for name in names]))


def _fields_named(cls: Any, key: Any) -> list[str]:
    """Dotted names of the fields called `key` in the dataclasses below a dataclass."""
    rows, hints = [], get_type_hints(cls)
    for inner in fields(cls):
        if is_dataclass(kind := hints[inner.name]):
            names = [field.name for field in fields(kind) if field.name == key]
            rows += [f"{inner.name}.{name}" for name in names + _fields_named(kind, key)]
    return rows


def _words(kind: Any, limits: Mapping[str, Any]) -> str:
    """A kind and its range in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_words(part, limits) for part in parts)
    if origin is dict and parts[1] is not Any:
        return f"an object of which each value is {_words(parts[1], limits)}"
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"a list of {len(parts)}, each {_words(parts[0], limits)}"
    if origin in (list, tuple):
        return f"a list, each {_words(parts[0], limits)}"
    if limits.get("choices"):
        return f"one of {', '.join(limits['choices'])}"
    if kind in (int, float) and (limited := range_words(limits)):
        return f"{NAMES[kind]}, {limited}"
    return OBJECT if is_dataclass(kind) else NAMES[origin or kind]


def range_words(limits: Mapping[str, Any]) -> str:
    """The range of a number for people; empty: any number."""
    low, high = limits.get("minimum"), limits.get("maximum")
    if low is not None and high is not None:
        return f"{low:g} … {high:g}"
    if low is not None:
        return f"≥ {low:g}"
    return "" if high is None else f"≤ {high:g}"
