# SPDX-License-Identifier: Apache-2.0
"""The service ~/relocalize: answered by the next image, without blocking the executor."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import Trigger

from disam_ros.nodes.rclpy_extra.waiting import steady_timer, waking_future

PATIENCE = 2.5  # timeout over `stale_after`


class Relocalize:
    """Answers once an image that arrived AFTER the request was localized.

    stale_after: time without an image that counts as stale [s]; PATIENCE times that, on the steady
    clock, is the timeout. An unreadable image does not answer but is named in the timeout's reason.
    The service stays as long as the node: rclpy ends a node whose service is gone when it answers.
    """

    def __init__(self, node: LifecycleNode, stale_after: float) -> None:
        self._node, self.stale_after = node, stale_after
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Future]] = []  # (newest image at request, answer)
        self._newest: Callable[[], int] | None = None  # number of the newest image; None: inactive
        self._hindrance = ""
        node.create_service(
            Trigger, "~/relocalize", self._on_request, callback_group=ReentrantCallbackGroup()
        )

    def start(self, newest: Callable[[], int]) -> None:
        """Take requests. newest: the number of the last image that arrived; later ones answer."""
        self._newest = newest

    def waits_for(self, number: int) -> bool:
        """Whether a request arrived before image `number`."""
        with self._lock:
            return any(newest < number for newest, _ in self._waiting)

    def answer(self, number: int, success: bool, message: str) -> None:
        """Answer the requests that arrived before image `number`, which was localized."""
        with self._lock:
            ready = [future for newest, future in self._waiting if newest < number]
            self._waiting = [w for w in self._waiting if w[0] >= number]
        for future in ready:
            future.set_result((success, message))

    def hindered(self, reason: str) -> None:
        """Note why an image could not be used: the reason if a request times out."""
        self._hindrance = reason

    def stop(self, reason: str) -> None:
        """Fail all pending requests."""
        newest, self._newest = self._newest, None
        if newest is not None:
            self.answer(newest() + 1, False, reason)

    async def _on_request(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._newest is None:
            response.success, response.message = False, "the localizer is not active"
            return response
        self._hindrance = ""
        future = waking_future(self._node)
        with self._lock:
            self._waiting.append((self._newest(), future))
        timeout = PATIENCE * self.stale_after
        timer = steady_timer(self._node, timeout, lambda: self._expire(future, timeout))
        response.success, response.message = await future
        self._node.destroy_timer(timer)
        return response

    def _expire(self, future: Future, timeout: float) -> None:
        with self._lock:
            kept = [w for w in self._waiting if w[1] is not future]
            expired = len(kept) < len(self._waiting)
            self._waiting = kept
        if expired:
            reason = self._hindrance or "no image arrived; check the image topic and its QoS"
            future.set_result((False, f"timeout after {timeout:g} s: {reason}"))
