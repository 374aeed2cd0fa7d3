# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed right before one of the changes that they make to files."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from support import forks

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
FORMS = os.O_WRONLY | os.O_RDWR | os.O_CREAT  # of opening a file to write
PATIENCE = 300.0  # [s]


def run(arguments: list[str], root: Path, log: Path, before: int = 0) -> tuple[int, int]:
    """Runs a command, in a fork, up to a change below `root`; 0: to its end.

    Returns its exit status, -9 where it was killed, and how many changes it made or was to make.
    """
    count = log.with_suffix(".count")
    count.unlink(missing_ok=True)
    process = forks.start(log, _run, arguments, str(root), str(count), before)
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{arguments} hangs: {log.read_text()[-2000:]}")
    status = process.exitcode
    return status, before if status == -signal.SIGKILL else int(count.read_text())


def _run(arguments: list[str], root: str, count: str, before: int) -> None:
    from disam_ros.cli import main

    changes = 0

    def watch(event: str, values: tuple[Any, ...]) -> None:
        nonlocal changes
        if _changes(event, values, root):
            changes += 1
            if changes == before:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    status = main(arguments)
    total = changes
    Path(count).write_text(str(total))
    sys.stdout.flush()
    os._exit(status)


def _changes(event: str, values: tuple[Any, ...], root: str) -> bool:
    """Whether an audited event changes files below a folder."""
    if event == "open":
        path, _, flags = values
        return bool(flags & FORMS) and _below(path, root)
    if event not in CHANGES:
        return False
    return _below(values[0], root) or (event in ("os.remove", "os.rmdir") and values[-1] != -1)


def _below(path: Any, root: str) -> bool:
    return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(root)
