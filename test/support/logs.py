# SPDX-License-Identifier: Apache-2.0
"""Logs of the processes that a test runs, for the report of a failure."""

from __future__ import annotations

from pathlib import Path

TAIL = 60  # lines
_running: dict[Path, bool] = {}  # by file


def follow(log: Path) -> None:
    """A process writes this file from now on."""
    _running[log] = True


def end(log: Path) -> None:
    """Its process ended; the file still belongs to the current test."""
    _running[log] = False


def forget_ended() -> None:
    """The next test does not report what ended before it."""
    for log in [log for log, runs in _running.items() if not runs]:
        del _running[log]


def tails() -> list[tuple[str, str]]:
    """(title, last lines) of each."""
    result = []
    for log in _running:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        result.append((f"log of a node: {log}", "\n".join(lines[-TAIL:]) or "(empty)"))
    return result
