# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent: atomic writing, versioned JSON, checksums, held files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from disam_ros.errors import DisamError

PART = ".part"  # suffix of an incomplete file or directory
BLOCK = 1 << 20  # bytes read at once


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


class HeldFile:
    """A file held open: what is read later is what was opened, even where its name is given to
    another file. Unlike a memory map it cannot end the process.

    size: in bytes. error: raised where the file cannot be read, or was written to since it was
    opened. May be used from any thread.
    """

    def __init__(self, path: Path, error: type[DisamError]) -> None:
        self.path, self._error = path, error
        try:
            self._handle = os.open(path, os.O_RDONLY)
        except OSError as fault:
            raise error(f"{path} cannot be read: {fault.strerror}") from fault
        weakref.finalize(self, os.close, self._handle)
        self._state = self._now()
        self.size = self._state[0]

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on. Raises `error` where there are fewer."""
        data = bytearray(size)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill a buffer of bytes with those from `offset` on. Raises `error`."""
        try:
            while len(target) and (count := os.preadv(self._handle, [target], offset)):
                target, offset = target[count:], offset + count
        except OSError as fault:
            raise self._error(f"{self.path} cannot be read: {fault.strerror}") from fault
        self.check()
        if len(target):
            raise self._error(f"{self.path} is damaged: it ends {len(target)} bytes too early")

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
        found = os.fstat(self._handle)
        return found.st_size, found.st_mtime_ns


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
