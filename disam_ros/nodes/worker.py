# SPDX-License-Identifier: Apache-2.0
"""Worker thread with bounded queues: the executor never waits, the oldest items are dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Handles items one after the other on its own thread.

    Every slot (a camera) keeps its `depth` newest items; slots take turns, so that a fast camera
    does not starve a slow one. handle: processes an item. failed: called with an exception of
    `handle`, after which the worker goes on; must not raise.
    """

    def __init__(
        self, handle: Callable[[T], None], failed: Callable[[Exception], None], depth: int = 1
    ) -> None:
        self._handle, self._failed, self._depth = handle, failed, depth
        self._slots: dict[str, deque[T]] = {}  # in the order in which they are served
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="disam_worker", daemon=True)
        self._thread.start()

    def offer(self, slot: str, item: T) -> bool:
        """Add an item; True if an older one was dropped for it."""
        with self._changed:
            queue = self._slots.setdefault(slot, deque())
            full = len(queue) >= self._depth
            if full:
                queue.popleft()
            queue.append(item)
            self._changed.notify()
        return full

    def take(self) -> list[T]:
        """The oldest item of each slot that waits, for a handler to handle with its own one."""
        with self._changed:
            items = [queue.popleft() for queue in self._slots.values()]
            self._slots = {slot: queue for slot, queue in self._slots.items() if queue}
        return items

    def stop(self, drain: bool = False) -> None:
        """Finish the current item, with `drain` also those that wait, and join the thread."""
        with self._changed:
            self._stopping = True
            if not drain:
                self._slots.clear()
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._slots)
                if not self._slots:
                    return
                slot = next(iter(self._slots))
                queue = self._slots.pop(slot)
                item = queue.popleft()
                if queue:  # to the end of the line
                    self._slots[slot] = queue
            try:
                self._handle(item)
            except Exception as error:
                self._failed(error)
            del item  # a large image must not live on until the next one comes
