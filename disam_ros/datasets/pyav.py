# SPDX-License-Identifier: Apache-2.0
"""PyAV, the bindings of FFmpeg's libraries, which decode video; the extra `video`."""

from __future__ import annotations

from typing import Any

from disam_ros.errors import DisamError

INSTALL = "pip install 'disam_ros[video]' (PyAV, package av)"


def import_av(error: type[DisamError]) -> Any:
    """Import the package av. Raises `error` with the command that installs it."""
    try:
        import av
        import av.error
    except ImportError as fault:
        raise error(f"reading video needs PyAV ({fault}): {INSTALL}") from fault
    av.logging.set_level(None)  # FFmpeg reports every packet; faults come as errors
    return av
