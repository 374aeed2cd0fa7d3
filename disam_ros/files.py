# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent: atomic writing, versioned JSON, checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from disam_ros.errors import DisamError

PART = ".part"  # suffix of an incomplete file or directory


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def part_of(path: Path) -> Path:
    """Where a file or directory is written before it gets its name."""
    return path.with_name(path.name + PART)


@contextmanager
def atomic_file(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` at the end of the block, synced to disk.

    mode: "w" or "wb"; options: as `Path.open` takes them. After an error `path` is what it was.
    """
    part = part_of(path)
    try:
        with part.open(mode, **options) as file:
            yield file
            sync(file)
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            part.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A new directory that gets the name `path` (absent, or an empty directory) at the end.

    After an error nothing is left of it.
    """
    part = part_of(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if path.is_dir():
            path.rmdir()
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_directory(path.parent)


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


def write_json(path: Path, values: Mapping[str, Any], indent: int = 2) -> None:
    """Write JSON: the file is the old one or the new one, whole."""
    with atomic_file(path) as file:
        file.write(json.dumps(values, indent=indent) + "\n")


def read_json(path: Path, version: int, error: type[DisamError]) -> dict[str, Any]:
    """Read a JSON object whose "format_version" is `version`.

    Raises `error`, naming the file, what was expected and what was found.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values["format_version"]
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise error(f"{path} is malformed: {fault}") from fault
    if found != version:
        raise error(f"{path} has format version {found}, expected {version}")
    return dict(values)
