# SPDX-License-Identifier: Apache-2.0
"""The disam executable: signals end a command, which leaves nothing half-written."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from disam_ros import cli, entry

PAUSE = 2.0  # seconds after a signal in which another does nothing: what is half-written is removed


def main() -> int:
    """Runs the command of the command line. Returns its exit status.

    After a signal it ends the process itself: where KeyboardInterrupt was raised in code that a
    library compiled (`exec`), Python would end with that signal, whatever the status.
    """
    status = _run()
    if status > 128:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)
    return status


def _run() -> int:
    interruption = _Interruption()
    handled = entry.heeded()
    for signum in handled:
        signal.signal(signum, interruption)
    try:
        return cli.main()
    except KeyboardInterrupt as end:  # another signal, before the first was reported
        status, fault = cli.of_signal(end)
    finally:
        for signum in handled:
            signal.signal(signum, signal.SIG_IGN)
    return cli.report(status, fault)


class _Interruption:
    """Raises KeyboardInterrupt with the number of the signal."""

    def __init__(self) -> None:
        self._last = -PAUSE

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= PAUSE:
            self._last = now
            raise KeyboardInterrupt(signum)
