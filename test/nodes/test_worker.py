# SPDX-License-Identifier: Apache-2.0
"""The worker thread and the diagnostics monitor, without DDS."""

import threading

import pytest

pytest.importorskip("rclpy")

from support.ros import values

from disam_ros.nodes.diagnostics import ERROR, OK, WARN, Monitor
from disam_ros.nodes.worker import Worker


class Gate:
    """A handler that waits until it is let through, and remembers what it got."""

    def __init__(self):
        self.seen = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, item):
        self.seen.append(item)
        self.entered.release()
        assert self.open.acquire(timeout=5)

    def let_through(self, count):
        for _ in range(count):
            self.open.release()
            assert self.entered.acquire(timeout=5)


def test_the_newest_item_of_a_slot_wins_and_slots_take_turns():
    gate = Gate()
    worker = Worker(gate, lambda error: None)
    worker.offer("left", "first")
    assert gate.entered.acquire(timeout=5)
    assert not worker.offer("left", "old")
    assert not worker.offer("right", "other")
    assert worker.offer("left", "new")
    gate.let_through(2)
    gate.open.release()
    worker.stop()
    assert gate.seen == ["first", "new", "other"]


def test_a_deeper_slot_keeps_the_order():
    gate = Gate()
    worker = Worker(gate, lambda error: None, depth=3)
    worker.offer("slot", 0)
    assert gate.entered.acquire(timeout=5)
    full = [worker.offer("slot", item) for item in (1, 2, 3, 4)]
    gate.let_through(3)
    gate.open.release()
    worker.stop()
    assert full == [False, False, False, True]
    assert gate.seen == [0, 2, 3, 4]


def test_after_an_exception_the_worker_goes_on():
    errors, done = [], threading.Event()

    def handle(item):
        if item == "bad":
            raise ValueError("broken")
        done.set()

    worker = Worker(handle, errors.append, depth=2)
    worker.offer("slot", "bad")
    worker.offer("slot", "good")
    assert done.wait(5)
    worker.stop()
    assert [str(e) for e in errors] == ["broken"]


def test_what_waits_is_forgotten_at_the_end():
    gate = Gate()
    worker = Worker(gate, lambda error: None)
    worker.offer("slot", "running")
    assert gate.entered.acquire(timeout=5)
    worker.offer("slot", "waiting")
    threading.Timer(0.1, gate.open.release).start()
    worker.stop()
    assert gate.seen == ["running"]


def test_the_worst_problem_sets_the_level_and_comes_first():
    monitor = Monitor("probe")
    assert monitor.status("active").level == OK
    assert monitor.problem("a", "odd", WARN, hold=None)
    assert not monitor.problem("a", "odd", WARN, hold=None)
    assert monitor.problem("b", "broken", ERROR, hold=None)
    status = monitor.status("active")
    assert (status.level, status.message) == (ERROR, "active: broken; odd")
    monitor.solved("b")
    assert monitor.status("active").level == WARN
    monitor.forget_problems()
    assert monitor.status("active").message == "active"


def test_a_passing_problem_is_forgotten_by_itself():
    monitor = Monitor("probe")
    monitor.problem("a", "odd", hold=-1.0)
    assert monitor.status("active").level == OK
    assert monitor.problem("a", "odd", hold=-1.0)  # new again: it is logged again


def test_counts_rates_and_latencies_are_told_as_values():
    monitor = Monitor("probe")
    monitor.start_counts("images")
    for number in range(1, 101):
        monitor.mark("in")
        monitor.latency("stage", float(number))
    told = values(monitor.status("active"))
    assert told["images"] == "0"
    assert float(told["in (Hz)"]) == pytest.approx(20.0)
    assert float(told["stage p50 (ms)"]) == pytest.approx(50.5)
    assert float(told["stage p99 (ms)"]) == pytest.approx(99.0, abs=0.1)
