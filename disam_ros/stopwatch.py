# SPDX-License-Identifier: Apache-2.0
"""Processing time of pipeline stages; the time unit of stamps."""

from __future__ import annotations

import time

import torch

NANOSECONDS = 1_000_000_000  # per second: stamps are integer nanoseconds


class Stopwatch:
    """Wall time by stage [ms]."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str, device: torch.device | None = None) -> None:
        """End a stage, once the device has finished its queued work."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self._laps[stage] = 1e3 * (now - self._last)
        self._last = now

    def finish(self) -> dict[str, float]:
        """Times of all stages and the total [ms]."""
        return {**self._laps, "total": 1e3 * (time.perf_counter() - self._start)}
