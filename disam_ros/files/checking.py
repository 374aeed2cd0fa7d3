# SPDX-License-Identifier: Apache-2.0
"""The validator of JSON, YAML and ROS parameters: plain values in, typed values out.

Type hints say what a value must be, the metadata of a field (settings.py) its range. A fault is one
sentence, `WHERE: 'NAME' expects WHAT; got WHAT`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from reprlib import repr as brief
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from disam_ros.errors import ConfigError, DisamError

T = TypeVar("T")
Limits = Mapping[str, Any]  # metadata of a field
NO_LIMITS: Limits = {}

MAX_WHOLE = 2**63  # magnitude of a whole number
MAX_TEXT = 4096  # characters of a text, such as a path
NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: f"a text of up to {MAX_TEXT} characters",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}  # of kinds, in messages


def build(cls: type[T], values: Any, where: str = "", error: type[DisamError] = ConfigError) -> T:
    """Make a dataclass, and those that are its fields, of an object read from a file.

    Fields with a default may be missing. Lists become tuples where a hint says so, and whole
    numbers floats. Raises `error`, naming `where` and the field; an error of the dataclass itself
    passes.
    """
    with _located(where, error):
        built: T = _entry(values, cls, "")
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
        entries = {
            key: _entry(values.get(key), kind, key, present=key in values)
            for key, kind in kinds.items()
        }
        return values | entries


def unknown_name(name: object, names: Collection[str]) -> str:
    """The message about a name that is not among `names`, with the nearest of these."""
    near = get_close_matches(str(name), names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(names) or 'none'}"
    return f"unknown name '{name}'; {hint}"


def range_words(limits: Limits) -> str:
    """The range of a number for people; empty: any number."""
    low, high = limits.get("minimum"), limits.get("maximum")
    if low is not None and high is not None:
        return f"{low:g} … {high:g}"
    if low is not None:
        return f"≥ {low:g}"
    return "" if high is None else f"≤ {high:g}"


class _Fault(Exception):
    """A fault with its message, or without one where the value's name is not known."""


@contextmanager
def _located(where: str, error: type[DisamError]) -> Iterator[None]:
    """Turn faults into `error`, naming `where`."""
    try:
        yield
    except _Fault as fault:
        raise error(f"{where}: {fault}" if where else str(fault)) from fault


def _entry(
    value: Any, kind: Any, name: str, limits: Limits = NO_LIMITS, present: bool = True
) -> Any:
    """The value of an entry as its kind. Raises _Fault with a message."""
    try:
        return _converted(value, kind, name, limits)
    except _Fault as fault:
        if fault.args:
            raise
        subject = f"'{name}' expects" if name else "expected"
        state = f"got {brief(value)}" if present else "it is missing"
        raise _Fault(f"{subject} {_words(kind, limits)}; {state}") from fault


def _converted(value: Any, kind: Any, name: str, limits: Limits) -> Any:
    """A value as its kind. Raises _Fault, with a message about a value in it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for part in parts[:-1]:
            with suppress(_Fault):
                return _converted(value, part, name, limits)
        return _converted(value, parts[-1], name, limits)
    if is_dataclass(kind):
        return _built(kind, value, f"{name}." if name else "")
    if origin is dict and isinstance(value, dict):
        return {key: _converted(item, parts[1], name, limits) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list | tuple):
        kinds = parts if origin is tuple and parts[-1] is not ... else parts[:1] * len(value)
        if len(kinds) != len(value):
            raise _Fault
        items = enumerate(zip(value, kinds, strict=True))
        return origin(_converted(item, part, f"{name}.{n}", limits) for n, (item, part) in items)
    return value if kind is Any else _scalar(value, kind, name, limits)


def _built(cls: Any, values: Any, prefix: str) -> Any:
    """A dataclass of an object. Raises _Fault."""
    if not isinstance(values, dict):
        raise _Fault
    by_name, hints = {field.name: field for field in fields(cls)}, get_type_hints(cls)
    _refuse_unknown(values, by_name, prefix, cls)
    arguments = {
        key: _entry(values.get(key), hints[key], prefix + key, field.metadata, key in values)
        for key, field in by_name.items()
        if key in values or field.default is field.default_factory is MISSING
    }
    return cls(**arguments)


def _scalar(value: Any, kind: Any, name: str, limits: Limits) -> Any:
    """A number, text or the like. Raises _Fault."""
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        value = float(value)
    choices, resolve = limits.get("choices"), limits.get("resolve")
    if type(value) is not kind or (choices and value not in choices):
        raise _Fault
    if kind in (int, float) and not (limits.get("unset") and math.isnan(value)):
        low, high = limits.get("minimum"), limits.get("maximum")
        finite = abs(value) <= MAX_WHOLE if kind is int else math.isfinite(value)
        if not finite or (low is not None and value < low) or (high is not None and value > high):
            raise _Fault
    if kind is str and len(value) > MAX_TEXT:
        raise _Fault
    try:
        return value if resolve is None else resolve(value)
    except ConfigError as error:
        raise _Fault(f"'{name}': {error}") from error


def _refuse_unknown(
    values: Mapping[Any, Any], names: Collection[str], prefix: str = "", cls: Any = None
) -> None:
    """Raise _Fault for a key that is not among the names."""
    for key in values:
        if key not in names:
            near = get_close_matches(str(key), names, 1)
            below = _fields_named(cls, key) if cls is not None and not near else []
            raise _Fault(unknown_name(f"{prefix}{key}", [prefix + n for n in below or names]))


def _fields_named(cls: Any, key: Any) -> list[str]:
    """Dotted names of the fields called `key` in the dataclasses below a dataclass."""
    rows, hints = [], get_type_hints(cls)
    for inner in fields(cls):
        if is_dataclass(kind := hints[inner.name]):
            names = [field.name for field in fields(kind) if field.name == key]
            rows += [f"{inner.name}.{name}" for name in names + _fields_named(kind, key)]
    return rows


def _words(kind: Any, limits: Limits) -> str:
    """A kind and its range in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_words(part, limits) for part in parts)
    if origin is dict and parts[1] is not Any:
        return f"an object of which each value is {_words(parts[1], limits)}"
    if origin in (list, tuple):
        count = f" of {len(parts)}" if origin is tuple and parts[-1] is not ... else ""
        return f"a list{count}, each {_words(parts[0], limits)}"
    if limits.get("choices"):
        return f"one of {', '.join(limits['choices'])}"
    if is_dataclass(kind):
        return "an object (key: value pairs)"
    words = range_words(limits) if kind in (int, float) else ""
    return NAMES[origin or kind] + (f", {words}" if words else "")
