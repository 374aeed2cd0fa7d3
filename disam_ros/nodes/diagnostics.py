# SPDX-License-Identifier: Apache-2.0
"""What a node tells of itself on /diagnostics: counts, rates, latencies, problems.

All methods may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

from disam_ros.device import memory_peak_mib

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

HOLD = 3.0  # seconds that a passing problem stays visible
RATE_WINDOW = 5.0  # seconds over which rates are taken
LATENCIES = 200  # newest latencies that percentiles are taken of
PERIOD = 1.0  # seconds between two messages without news
CHECK_PERIOD = 0.2  # seconds within which news are told


@dataclass(frozen=True)
class Problem:
    """Something that deviates. until: monotonic seconds when it is forgotten; None: stays."""

    level: bytes
    text: str
    until: float | None


class Monitor:
    """Collects facts and problems; `status()` puts them into one DiagnosticStatus."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._facts: dict[str, str] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._marks: dict[str, deque[float]] = {}
        self._latencies: dict[str, deque[float]] = {}
        self._problems: dict[str, Problem] = {}

    def fact(self, key: str, value: object) -> None:
        """Set a value that is shown as it is."""
        with self._lock:
            self._facts[key] = str(value)

    def count(self, key: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[key] += number

    def start_counts(self, *keys: str) -> None:
        """Show these counters from the start, at zero."""
        with self._lock:
            for key in keys:
                self._counts[key] += 0

    def mark(self, key: str) -> None:
        """An event whose rate is shown."""
        with self._lock:
            self._marks.setdefault(key, deque(maxlen=1000)).append(time.monotonic())

    def latency(self, stage: str, milliseconds: float) -> None:
        """A duration whose median and 99th percentile are shown."""
        with self._lock:
            self._latencies.setdefault(stage, deque(maxlen=LATENCIES)).append(milliseconds)

    def problem(self, key: str, text: str, level: bytes = WARN, hold: float | None = HOLD) -> bool:
        """Something deviates. hold: seconds it stays visible; None: until `solved`.

        True if it is new, so that the caller logs it once.
        """
        with self._lock:
            now = time.monotonic()
            old = self._problems.get(key)
            until = None if hold is None else now + hold
            self._problems[key] = Problem(level, text, until)
            return old is None or old.text != text or (old.until is not None and old.until < now)

    def warn_once(
        self,
        logger: RcutilsLogger,
        key: str,
        text: str,
        *,
        level: bytes = WARN,
        hold: float | None = HOLD,
    ) -> None:
        """A problem (see `problem`) that is also logged, at its level, when it is new."""
        if not self.problem(key, text, level, hold):
            return
        if level == ERROR:  # two calls: rclpy refuses two severities from one line
            logger.error(text)
        else:
            logger.warning(text)

    def solved(self, key: str) -> None:
        """A problem is gone."""
        with self._lock:
            self._problems.pop(key, None)

    def forget_problems(self) -> None:
        """Begin anew."""
        with self._lock:
            self._problems.clear()

    def status(self, state: str) -> DiagnosticStatus:
        """Everything at this moment; the message is the state, then the problems, worst first."""
        with self._lock:
            now = time.monotonic()
            problems = [p for p in self._problems.values() if p.until is None or p.until >= now]
            problems.sort(key=lambda p: p.level, reverse=True)
            values = [*self._facts.items(), ("memory peak (MiB)", f"{memory_peak_mib():.0f}")]
            values += [(f"{key} (Hz)", f"{_rate(m, now):.2f}") for key, m in self._marks.items()]
            values += [(key, str(number)) for key, number in self._counts.items()]
            for stage, durations in self._latencies.items():
                median, high = np.percentile(durations, (50, 99))
                values += [(f"{stage} p50 (ms)", f"{median:.1f}")]
                values += [(f"{stage} p99 (ms)", f"{high:.1f}")]
        status = DiagnosticStatus(name=self._name, hardware_id=self._facts.get("device", ""))
        status.level = problems[0].level if problems else OK
        problem_texts = "; ".join(p.text for p in problems)
        status.message = f"{state}: {problem_texts}" if problems else state
        status.values = [KeyValue(key=key, value=value) for key, value in values]
        return status


class DiagnosticsPublisher:
    """Publishes a status on /diagnostics: at 1 Hz, and within 0.2 s when level or message change.

    The timer runs on the steady clock: it also ticks while the simulated time stands still.
    """

    def __init__(self, node: Node, make_status: Callable[[], DiagnosticStatus]) -> None:
        self._node, self._make_status = node, make_status
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._last: tuple[bytes, str] | None = None
        self._last_time = 0.0
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(CHECK_PERIOD, self._tick, clock=clock)

    def _tick(self) -> None:
        status = self._make_status()
        head = (status.level, status.message)
        now = time.monotonic()
        if head == self._last and now - self._last_time < PERIOD:
            return
        self._last, self._last_time = head, now
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _rate(marks: deque[float], now: float) -> float:
    recent = sum(now - mark <= RATE_WINDOW for mark in marks)
    return recent / RATE_WINDOW
