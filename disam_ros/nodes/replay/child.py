# SPDX-License-Identifier: Apache-2.0
"""Runs a localizer that ends with its parent process, whose pipe is its standard input.

The system closes the pipe however that process ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from disam_ros import entry


def main() -> int:
    """Runs the localizer_node executable until the standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    return entry.start("localizer_node")


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    raise SystemExit(main())
