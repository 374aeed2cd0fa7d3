# SPDX-License-Identifier: Apache-2.0
"""The worker thread, without DDS."""

import threading

import pytest

pytest.importorskip("rclpy")

from disam_ros.nodes.image_input import Worker

DEADLINE = 300.0  # seconds; only a worker that hangs needs them


class Gate:
    """A handler that waits until it is let through, and remembers what it got."""

    def __init__(self):
        self.seen = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, item):
        self.seen.append(item)
        self.entered.release()
        assert self.open.acquire(timeout=DEADLINE)

    def let_through(self, count):
        for _ in range(count):
            self.open.release()
            assert self.entered.acquire(timeout=DEADLINE)


def test_the_newest_item_of_a_slot_wins_and_slots_take_turns():
    gate = Gate()
    worker = Worker(gate, lambda error: None)
    worker.offer("left", "first")
    assert gate.entered.acquire(timeout=DEADLINE)
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
    assert gate.entered.acquire(timeout=DEADLINE)
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
    assert done.wait(DEADLINE)
    worker.stop()
    assert [str(e) for e in errors] == ["broken"]


def test_what_waits_is_forgotten_at_the_end():
    gate = Gate()

    def handle(item):
        gate(item)
        worker.stop()

    worker = Worker(handle, lambda error: None)
    worker.offer("slot", "running")
    assert gate.entered.acquire(timeout=DEADLINE)
    worker.offer("slot", "waiting")
    gate.open.release()
    worker.stop()
    assert gate.seen == ["running"]
