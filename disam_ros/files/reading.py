# SPDX-License-Identifier: Apache-2.0
"""Checked reading: files of bounded size; headers whose faults name file, key and expectation."""

from __future__ import annotations

import json
import os
import reprlib
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from itertools import count
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from disam_ros.errors import DisamError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

MAX_BYTES = 1 << 26  # of a file that is read at once
MAX_LINE = 1 << 20  # characters of a line of a table
MAX_WHOLE = 2**63  # of a number in a file
MAX_TEXT = 4096  # characters of a text in a header, as of a path
_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: f"a text of up to {MAX_TEXT} characters",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


@contextmanager
def reading(path: Path, error: type[DisamError]) -> Iterator[None]:
    """Turn an OSError inside into `error`, naming the file, or `path` where it names none."""
    try:
        yield
    except OSError as fault:
        advice = "; let this user read it" if isinstance(fault, PermissionError) else ""
        reason = f"{fault.strerror or fault}{advice}"
        raise error(f"{fault.filename or path} cannot be read: {reason}") from fault


def read_bytes(path: Path, error: type[DisamError], largest: int = MAX_BYTES) -> bytes:
    """Contents of a regular file.

    Raises `error` for any other kind, since pipes and devices may have no end, and for more than
    `largest` bytes.
    """
    with reading(path, error):
        _require_regular(path, error)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, largest) + 1)  # takes that much memory at once
    if len(data) > largest:
        raise error(f"{path} has more than {largest / 2**20:g} MiB, which none of its kind has")
    return data


def read_lines(path: Path, error: type[DisamError]) -> Iterator[str]:
    """Lines of a regular file in UTF-8, with their ends, one after the other.

    Raises `error`, naming the file, as `read_bytes` does, and for a line of more than MAX_LINE
    characters, which would be read until the memory is full.
    """
    with reading(path, error):
        _require_regular(path, error)
        with path.open(newline="", encoding="utf-8") as file:
            for number in count(1):
                try:
                    line = file.readline(MAX_LINE + 1)
                except UnicodeDecodeError as fault:
                    raise error(f"{path} is malformed: {fault}; expected UTF-8 text") from fault
                if len(line) > MAX_LINE:
                    raise error(
                        f"{path} is malformed: line {number} has more than {MAX_LINE} characters; "
                        "expected a line per row"
                    )
                if not line:
                    return
                yield line


def _require_regular(path: Path, error: type[DisamError]) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise error(f"{path} is no regular file but a folder, pipe or device; expected a file")


def parse_json(text: bytes, where: str, error: type[DisamError]) -> Any:
    """Values of a JSON text. Raises `error`, naming `where`."""
    try:
        return json.loads(text)
    except RecursionError as fault:
        raise error(f"{where} is malformed: its lists and objects are nested too deeply") from fault
    except ValueError as fault:
        raise error(f"{where} is malformed: {fault}; expected JSON") from fault


def read_json(
    path: Path,
    version: int,
    error: type[DisamError],
    kinds: Mapping[str, Any] | None = None,
    closed: bool = False,
    older: Collection[int] = (),
) -> dict[str, Any]:
    """Read a JSON object whose "format_version" is `version` and whose entries are of `kinds`.

    kinds, closed: see `check_entries`. older: versions that are read as well. Raises `error`,
    naming the file, the key, what was expected and what was found.
    """
    values = parse_json(read_bytes(path, error), str(path), error)
    found = values.get("format_version") if isinstance(values, dict) else None
    if found is not None and found not in (version, *older):
        raise error(f"{path} has format version {reprlib.repr(found)}, expected {version}")
    return check_entries(values, {"format_version": int, **(kinds or {})}, str(path), error, closed)


def check_entries(
    values: Any,
    kinds: Mapping[str, Any],
    where: str,
    error: type[DisamError],
    closed: bool = False,
) -> dict[str, Any]:
    """A JSON object whose entries are of the kinds given as type hints.

    kinds: by key; one that may be None may also be missing, and is None then. Numbers are finite.
    closed: whether other keys are an error.
    Raises `error`, naming the key, what was expected and what was found.
    """
    if not isinstance(values, dict):
        expected = f"an object with the keys {', '.join(kinds)}"
        raise error(f"{where}: expected {expected}; got {reprlib.repr(values)}")
    if closed and (unknown := set(values) - set(kinds)):
        raise error(f"{where}: unknown key '{min(unknown)}'; expected {', '.join(kinds)}")
    for key, kind in kinds.items():
        value = values.get(key)
        if not _fits(value, kind):
            found = f"got {reprlib.repr(value)}" if key in values else "it is missing"
            raise error(f"{where}: '{key}' expects {_words(kind)}; {found}")
    return {**dict.fromkeys(kinds), **values}


def build(cls: type[T], values: Any, where: str, error: type[DisamError]) -> T:
    """A dataclass from a JSON object, lists as tuples where it has those.

    Raises `error` as `check_entries`; what the dataclass itself refuses is its own error.
    """
    hints, given = get_type_hints(cls), values if isinstance(values, dict) else {}
    known = {field.name: field for field in fields(cls)}
    if unknown := set(given) - set(known):
        raise error(f"{where}: unknown key '{min(unknown)}'; expected {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is f.default_factory is MISSING]
    kinds = {name: hints[name] for name in known if name in given or name in needed}
    entries = check_entries(values, kinds, where, error)
    return cls(**{k: tuple(v) if get_origin(kinds[k]) is tuple else v for k, v in entries.items()})


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a kind."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(v, parts[1]) for v in value.values())
    if get_origin(kind) is tuple and parts[-1] is not Ellipsis:
        right = isinstance(value, list | tuple) and len(value) == len(parts)
        return right and all(map(_fits, value, parts))
    if get_origin(kind) in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(v, parts[0]) for v in value)
    if kind in (int, float):
        number = isinstance(value, int | kind) and not isinstance(value, bool)
        return number and abs(value) <= (MAX_WHOLE if kind is int else sys.float_info.max)
    if kind is str:
        return isinstance(value, str) and len(value) <= MAX_TEXT
    return kind is Any or isinstance(value, kind)


def _words(kind: Any) -> str:
    """A kind for people."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_words(part) for part in parts)
    if get_origin(kind) is dict and parts[1] is not Any:
        return f"an object of which each value is {_words(parts[1])}"
    if get_origin(kind) is tuple and parts[-1] is not Ellipsis:
        return f"a list of {len(parts)}, each {_words(parts[0])}"
    if get_origin(kind) in (list, tuple):
        return f"a list, each {_words(parts[0])}"
    return _NAMES[get_origin(kind) or kind]
