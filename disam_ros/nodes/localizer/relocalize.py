# SPDX-License-Identifier: Apache-2.0
"""Requests that are answered by the next image, without blocking the executor."""

from __future__ import annotations

import threading

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import Trigger


class Relocalize:
    """The service ~/relocalize: answers once an image that came AFTER the request was localized.

    A timeout in real seconds; an image that cannot be decoded does not answer, it is noted. The
    service stays as long as the node: rclpy ends a node whose service is gone when it answers.
    """

    def __init__(self, node: LifecycleNode, timeout: float) -> None:
        self._node, self.timeout = node, timeout
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Future]] = []  # (newest image at request, answer)
        self._newest = 0
        self._hindrance = ""
        self.active = False
        node.create_service(
            Trigger, "~/relocalize", self._on_request, callback_group=ReentrantCallbackGroup()
        )

    def arrived(self, number: int) -> None:
        """An image arrived; only later ones answer requests made from now on."""
        with self._lock:
            self._newest = number

    def waits_for(self, number: int) -> bool:
        """Whether somebody asked before image `number` came."""
        with self._lock:
            return any(newest < number for newest, _ in self._waiting)

    def answer(self, number: int, success: bool, message: str) -> None:
        """Image `number` was localized: answer all that asked before it came."""
        with self._lock:
            ready = [future for newest, future in self._waiting if newest < number]
            self._waiting = [w for w in self._waiting if w[0] >= number]
        for future in ready:
            future.set_result((success, message))

    def hindered(self, reason: str) -> None:
        """An image could not be used; told when a request times out."""
        self._hindrance = reason

    def stop(self, reason: str) -> None:
        """Answer everyone in the negative."""
        self.active = False
        with self._lock:
            number = self._newest + 1
        self.answer(number, False, reason)

    async def _on_request(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.active:
            response.success, response.message = False, "the localizer is not active"
            return response
        self._hindrance = ""
        future = Future(executor=self._node.executor)
        future.add_done_callback(lambda _: None)  # wakes the executor
        with self._lock:
            self._waiting.append((self._newest, future))
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(self.timeout, lambda: self._expire(future), clock=clock)
        response.success, response.message = await future
        self._node.destroy_timer(timer)
        return response

    def _expire(self, future: Future) -> None:
        with self._lock:
            kept = [w for w in self._waiting if w[1] is not future]
            expired = len(kept) < len(self._waiting)
            self._waiting = kept
        if expired:
            reason = self._hindrance or "no image arrived; check the image topic and its QoS"
            future.set_result((False, f"timeout after {self.timeout:g} s: {reason}"))
