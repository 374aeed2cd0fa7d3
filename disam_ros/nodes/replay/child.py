# SPDX-License-Identifier: Apache-2.0
"""Processes that end with the one that started them, however that ends: killed, too.

Each has a pipe of its parent as standard input, which the system closes when the parent is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from disam_ros import entry

STOP_TIMEOUT = 20.0  # time until a process that does not end is killed [s]


@contextmanager
def child_process(
    name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs an executable of entry.MODULES, which is terminated at the end of the block.

    Ctrl-C in a terminal does not reach it. environment: variables besides those of this process.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "disam_ros.nodes.replay.child", name, *arguments],
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        with process.stdin:  # open as long as this process lives
            yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def main() -> int:
    """Runs the executable that the command line names until it ends or the standard input does."""
    del sys.argv[0]
    threading.Thread(target=_end_with_input, daemon=True).start()
    return entry.start(sys.argv[0])


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
