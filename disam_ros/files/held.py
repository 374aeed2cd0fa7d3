# SPDX-License-Identifier: Apache-2.0
"""Files held open while they are in use."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from disam_ros.errors import DisamError
from disam_ros.files.reading import reading

BLOCK = 1 << 20  # bytes read at once


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
