# SPDX-License-Identifier: Apache-2.0
"""How long the stages of one answer take."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str, device: torch.device | None = None) -> None:
        """The stage ends here, once the device has done its work."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self._laps[stage] = 1e3 * (now - self._last)
        self._last = now

    def finish(self) -> dict[str, float]:
        """All stages, and the total."""
        return {**self._laps, "total": 1e3 * (time.perf_counter() - self._start)}
