# SPDX-License-Identifier: Apache-2.0
"""Checked reading: regular files of bounded size, JSON and its headers, files held open."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import stat
import struct
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from disam_ros.errors import DisamError, GeometryError
from disam_ros.files.checking import check_entries

MAX_BYTES = 1 << 26  # of a file that is read at once
# What values that no file of a kind holds raise in Python and its libraries.
DAMAGE = (
    *(ArithmeticError, LookupError, MemoryError, TypeError, ValueError),
    *(csv.Error, struct.error),
)
MAX_VALUES = 4_000_000  # of a JSON file; each takes up to 100 bytes of memory
DICT = 3  # values that take as much memory as an object
MAX_LINE = 1 << 20  # characters of a line of a table
BLOCK = 1 << 20  # bytes read at once


@contextmanager
def reading(path: Path, error: type[DisamError]) -> Iterator[None]:
    """Turn an OSError into `error`, naming its file, or `path` where it names none."""
    try:
        yield
    except OSError as fault:
        advice = "; let this user read it" if isinstance(fault, PermissionError) else ""
        reason = f"{fault.strerror or fault}{advice}"
        raise error(f"{fault.filename or path} cannot be read: {reason}") from fault


@contextmanager
def parsing(path: Path, error: type[DisamError]) -> Iterator[None]:
    """Turn what Python raises for the values of a damaged file into `error`, naming the file.

    It is the boundary of a reader, which names the line itself of what it checks.
    """
    with reading(path, error):
        try:
            yield
        except (GeometryError, *DAMAGE) as fault:
            raise error(
                f"{path} is malformed: {str(fault) or type(fault).__name__:.300}"
            ) from fault


def read_bytes(path: Path, error: type[DisamError], largest: int = MAX_BYTES) -> bytes:
    """Read a regular file.

    Raises `error` for any other kind, since pipes and devices may have no end, and for more than
    `largest` bytes.
    """
    with reading(path, error):
        require_regular(path, error)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, largest) + 1)  # takes that much memory at once
    if len(data) > largest:
        raise error(f"{path} has more than {largest / 2**20:g} MiB, which none of its kind has")
    return data


def read_lines(path: Path, error: type[DisamError]) -> Iterator[str]:
    """Read the lines of a regular file in UTF-8, with their ends, one after the other.

    Raises `error`, naming the file, as `read_bytes` does, and for a line of more than MAX_LINE
    characters, which would be read until the memory is full.
    """
    with reading(path, error):
        require_regular(path, error)
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


def require_regular(path: Path, error: type[DisamError]) -> None:
    """Raise `error` unless a path is a regular file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise error(f"{path} is no regular file but a folder, pipe or device; expected a file")


def parse_json(text: bytes, where: str, error: type[DisamError]) -> Any:
    """Parse a JSON text. Raises `error`, naming `where`, also for more than MAX_VALUES values."""
    if DICT * text.count(b"{") + text.count(b"[") + text.count(b",") > MAX_VALUES:
        raise error(f"{where} holds more than {MAX_VALUES} values, which none of its kind does")
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
    remedy: str = "",
) -> dict[str, Any]:
    """Read a JSON object whose "format_version" is `version` and whose entries are of `kinds`.

    kinds, closed: see `check_entries`. remedy: for a file of another version. Raises `error`,
    naming the file, the key, what was expected and what came.
    """
    values = parse_json(read_bytes(path, error), str(path), error)
    came = values.get("format_version") if isinstance(values, dict) else None
    if came is not None and came != version:
        text = f"{path} has format version {brief(came)}, expected {version}"
        raise error(f"{text}; {remedy}" if remedy else text)
    return check_entries(values, {"format_version": int, **(kinds or {})}, str(path), error, closed)


class HeldFile:
    """A file held open: its content is read even where its name is given to another file.

    Unlike a memory map it cannot end the process. error: raised where the file cannot be read, or
    was written to since it was opened. size: [bytes]. May be used from any thread.
    """

    def __init__(self, path: Path, error: type[DisamError]) -> None:
        self.path, self._error = path, error
        with reading(path, error):
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
        weakref.finalize(self, os.close, self._handle)
        self._state = self._now()
        self.size = self._state[0]

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes from `offset` on. Raises `error` where there are fewer."""
        data = bytearray(size)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fills a buffer of bytes with the bytes from `offset` on. Raises `error`."""
        self.read_each([target], [offset])

    def read_each(self, targets: Sequence[memoryview], offsets: Sequence[int]) -> None:
        """Fills several buffers, each with the bytes from its offset on. Raises `error`."""
        missing = 0
        with reading(self.path, self._error):
            for target, offset in zip(targets, offsets, strict=True):
                while len(target) and (count := os.preadv(self._handle, [target], offset)):
                    target, offset = target[count:], offset + count
                missing += len(target)
        self.check()
        if missing:
            raise self._error(f"{self.path} is damaged: it ends {missing} bytes too early")

    def check(self) -> None:
        """Raise `error` if the file was written to since it was opened."""
        if self._now() != self._state:
            raise self._error(
                f"{self.path} was changed while in use: put a new version under another name, or "
                "move it into place as a whole"
            )

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content."""
        digest = hashlib.sha256()
        for start in range(0, self.size, BLOCK):
            digest.update(self.read(start, min(BLOCK, self.size - start)))
        return digest.hexdigest()

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self._handle)
        return state.st_size, state.st_mtime_ns
