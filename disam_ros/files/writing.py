# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent: atomic writing, JSON, checksums."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

EXCHANGE, NEAR = 2, -100  # flag of renameat2, and its directory of relative paths
PART = ".part"  # suffix of an incomplete file or directory
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None}  # numpy's error of a full disk has no number


def number_text(value: float) -> str:
    """Write a number to nine digits, and to six decimals where these are more.

    Coordinates of UTM or ECEF [m] so keep micrometres, and small numbers stay short.
    """
    if abs(value) < 1000.0:
        return f"{value:.9g}"
    text = f"{value:.6f}"
    return text.rstrip("0").rstrip(".") if abs(value) < 1e15 else f"{value:.17g}"


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def part_of(path: Path) -> Path:
    """The path where a file or directory is written before it gets its name.

    Directories without a name of their own, such as `.`, are named by where they are.
    """
    if path.name in ("", ".."):
        path = Path(os.path.realpath(path))
    return path.parent / (path.name + PART)


@contextmanager
def atomic_file(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Write a file that replaces `path` at the end of the block, synced to disk.

    mode: "w" or "wb". options: of `Path.open`. Characters that the encoding lacks, such as of names
    that are no UTF-8, are escaped. Several writers wait for each other, and the last one's file
    stays. After an error `path` is unchanged.
    """
    if "b" not in mode:
        options.setdefault("errors", "backslashreplace")
    part = part_of(path)
    with open(_taken(part), mode, **options) as file:
        try:
            yield file
            sync(file)
            part.replace(path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                part.unlink(missing_ok=True)
            raise


def _taken(part: Path) -> int:
    """Descriptor of an empty file that nobody else writes; waits for who does."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), part.stat()):  # not renamed meanwhile
                    os.ftruncate(handle, 0)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other process is in such a block of a directory, so that none of two changes
    of one file is lost."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync(file: IO[Any]) -> None:
    """Flush a file to disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make renames in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def exchange(first: Path, second: Path) -> bool:
    """Give two directories each other's names at one stroke; False where a file system cannot."""
    sys.audit("os.rename", str(first), str(second), -1, -1)
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # of another C library
        return False
    return bool(rename(NEAR, os.fsencode(first), NEAR, os.fsencode(second), EXCHANGE) == 0)


def write_json(path: Path, values: Mapping[str, Any], indent: int = 2) -> None:
    """Write JSON atomically."""
    with atomic_file(path) as file:
        file.write(json.dumps(values, indent=indent) + "\n")


def finite(value: Any, digits: int | None = None) -> Any:
    """Return a value for JSON: None replaces numbers that are not finite, others are rounded."""
    if isinstance(value, dict):
        return {key: finite(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry, digits) for entry in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)


def describe_fault(error: OSError) -> str:
    """Describe a fault on writing, and what to do."""
    remedy = "make it writable or choose another output"
    if error.errno in FULL:
        remedy = "free space or choose another output, then run the same command again"
    return f"{error.strerror or error}; {remedy}"
