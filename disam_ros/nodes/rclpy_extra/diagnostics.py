# SPDX-License-Identifier: Apache-2.0
"""Status of a node on /diagnostics: facts, counts, rates, latencies and problems.

All methods may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.logging import get_logger
from rclpy.node import Node

from disam_ros.device import memory_mib, memory_peak_mib
from disam_ros.files.printable import printable
from disam_ros.nodes.rclpy_extra.waiting import no_events, steady_timer

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

HOLD = 3.0  # time that a passing problem stays visible [s]
RATE_WINDOW = 5.0  # moving window of rates [s]
LATENCIES = 200  # window of the latencies' percentiles
PERIOD = 1.0  # time between two messages without a change [s]
CHECK_PERIOD = 0.2  # time within which a change is published [s]
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
LONGEST = 500  # characters of a text: words of a message may be of any length


def shorten(text: str) -> str:
    """Return a text in one line, control characters escaped; a long one loses its middle."""
    text = printable(text)
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} [… {len(text) - 2 * half} characters …] {text[-half:]}"


@dataclass(frozen=True)
class Problem:
    """A deviation that is reported."""

    level: bytes
    text: str
    until: float | None  # end of its display on the monotonic clock [s]; None: until solved


class Monitor:
    """Collects facts, counts and problems; `status()` makes one DiagnosticStatus of them."""

    def __init__(self, name: str, logger: RcutilsLogger | None = None) -> None:
        """name: of the status. logger: of problems; None: one of the same name."""
        self._name, self._logger = name, logger or get_logger(name)
        self._lock = threading.Lock()
        self._facts: dict[str, str] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._marks: dict[str, deque[float]] = {}
        self._latencies: dict[str, deque[float]] = {}
        self._problems: dict[str, Problem] = {}

    def fact(self, key: str, value: object) -> None:
        """Set a value."""
        with self._lock:
            self._facts[key] = shorten(str(value))

    def count(self, key: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[key] += number

    def counted(self, *keys: str) -> dict[str, int]:
        """Counters that are not zero."""
        with self._lock:
            return {key: self._counts[key] for key in keys if self._counts.get(key)}

    def start_counts(self, *keys: str) -> None:
        """Show these counters from the start, at zero."""
        with self._lock:
            for key in keys:
                self._counts[key] += 0

    def mark(self, key: str) -> None:
        """Note an event; its rate is reported."""
        with self._lock:
            self._marks.setdefault(key, deque(maxlen=1000)).append(time.monotonic())

    def latency(self, stage: str, milliseconds: float) -> None:
        """Note a duration [ms]; its median and 99th percentile are reported."""
        with self._lock:
            self._latencies.setdefault(stage, deque(maxlen=LATENCIES)).append(milliseconds)

    def problem(self, key: str, text: str, level: bytes = WARN, hold: float | None = HOLD) -> bool:
        """Report a deviation. hold: time that it stays visible [s]; None: until `solved`.

        True if it is new: not visible already with the same text.
        """
        with self._lock:
            now = time.monotonic()
            old = self._problems.get(key)
            text, until = shorten(text), None if hold is None else now + hold
            self._problems[key] = Problem(level, text, until)
            return old is None or old.text != text or (old.until is not None and old.until < now)

    def warn_once(self, key: str, text: str, level: bytes = WARN) -> None:
        """Report a problem that passes (see `problem`), and log it at its level where it is new."""
        if self.problem(key, text, level):
            self._log(text, level)

    def lasting(self, key: str, text: str, level: bytes = WARN) -> None:
        """As `warn_once`, of a problem that lasts until it is solved; with an empty text it is."""
        if not text:
            self.solved(key)
        elif self.problem(key, text, level, hold=None):
            self._log(text, level)

    def _log(self, text: str, level: bytes) -> None:
        text = shorten(text)
        if level == ERROR:  # two calls: rclpy refuses two severities from one line
            self._logger.error(text)
        else:
            self._logger.warning(text)

    def shows(self, key: str) -> bool:
        """Whether a problem was reported and neither solved nor forgotten."""
        with self._lock:
            return key in self._problems

    def solved(self, key: str) -> None:
        """Remove a problem that is gone."""
        with self._lock:
            self._problems.pop(key, None)

    def forget_problems(self) -> None:
        """Clear all problems."""
        with self._lock:
            self._problems.clear()

    def headline(self, state: str) -> tuple[bytes, str]:
        """Level and message of the present status: the state, then the problems, worst first."""
        with self._lock:
            now = time.monotonic()
            for key in [k for k, p in self._problems.items() if p.until and p.until < now]:
                del self._problems[key]
            problems = sorted(self._problems.values(), key=lambda p: p.level, reverse=True)
        texts = "; ".join(problem.text for problem in problems)
        return problems[0].level if problems else OK, f"{state}: {texts}" if problems else state

    def status(self, state: str) -> DiagnosticStatus:
        """The present status."""
        level, message = self.headline(state)
        with self._lock:
            now = time.monotonic()
            memory = {"memory (MiB)": memory_mib(), "memory peak (MiB)": memory_peak_mib()}
            values = [*self._facts.items(), *((key, f"{n:.0f}") for key, n in memory.items())]
            values += [(f"{key} (Hz)", f"{_rate(m, now):.2f}") for key, m in self._marks.items()]
            values += [(key, str(number)) for key, number in self._counts.items()]
            for stage, durations in self._latencies.items():
                median, high = np.percentile(durations, (50, 99))
                values += [(f"{stage} p50 (ms)", f"{median:.1f}")]
                values += [(f"{stage} p99 (ms)", f"{high:.1f}")]
        status = DiagnosticStatus(name=self._name, hardware_id=self._facts.get("device", ""))
        status.level, status.message = level, message
        status.values = [KeyValue(key=key, value=value) for key, value in values]
        return status


class DiagnosticsPublisher:
    """Publishes a status on /diagnostics at 1 Hz, and within 0.2 s of a new level or message.

    Also reports other nodes of the same name, and topics of another type. The timer runs on the
    steady clock: it also ticks while the simulated time stands still.
    """

    def __init__(self, node: Node, monitor: Monitor, update: Callable[[], str]) -> None:
        """update: brings the monitor up to date and returns the state in a word."""
        self._node, self._monitor, self._update = node, monitor, update
        self._publisher = node.create_publisher(
            DiagnosticArray, "/diagnostics", 10, event_callbacks=no_events()
        )
        self._last: tuple[bytes, str] | None = None
        self._last_time = self._checked = 0.0
        self._timer = steady_timer(node, CHECK_PERIOD, self._tick)

    def _check_name(self) -> None:
        name = self._node.get_name(), self._node.get_namespace()
        count = self._node.get_node_names_and_namespaces().count(name)
        if count <= 1:
            self._monitor.solved("name")
            return
        text = (
            f"{count} nodes are called {self._node.get_fully_qualified_name()}: their answers, "
            "services and parameters get mixed up; stop the others, or rename one with -r "
            "__node:=NAME or a namespace"
        )
        self._monitor.lasting("name", text)

    def _check_types(self) -> None:
        """Report topics that all publishers offer with another type: DDS connects them to nobody.

        Of images the node's own advice does.
        """
        node = self._node
        for subscription in node.subscriptions:
            name, expected = subscription.topic_name, type_name(subscription.msg_type)
            if expected in IMAGES:
                continue
            kinds = {info.topic_type for info in node.get_publishers_info_by_topic(name)}
            if not kinds or expected in kinds:
                self._monitor.solved(f"type of {name}")
                continue
            text = (
                f"no message of {name} is heard: it is published as {', '.join(sorted(kinds))}, "
                f"expected {expected}; remap {name} to a topic of that type"
            )
            self._monitor.lasting(f"type of {name}", text)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._checked >= PERIOD:
            self._check_name()
            self._check_types()
            self._checked = now
        state = self._update()
        head = self._monitor.headline(state)
        if head == self._last and now - self._last_time < PERIOD:
            return
        self._last, self._last_time = head, now
        message = DiagnosticArray(status=[self._monitor.status(state)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def type_name(kind: Any) -> str:
    """The name of a message type, such as sensor_msgs/msg/Image."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _rate(marks: deque[float], now: float) -> float:
    recent = sum(now - mark <= RATE_WINDOW for mark in marks)
    return recent / RATE_WINDOW
