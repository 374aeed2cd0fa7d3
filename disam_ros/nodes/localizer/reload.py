# SPDX-License-Identifier: Apache-2.0
"""The service ~/reload: exchange map or model while the node runs."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import Trigger

from disam_ros.errors import DisamError
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, Monitor
from disam_ros.nodes.rclpy_extra.waiting import waking_future

T = TypeVar("T")
KEY = "reload"


class Reload(Generic[T]):
    """Opens map and model on a thread of its own, then exchanges them on the executor's.

    open_new: slow; raises DisamError. adopt: exchanges them and returns a log line; raises
    DisamError where it does not fit, having changed nothing. A fault is reported and answered.
    """

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        open_new: Callable[[], T],
        adopt: Callable[[T], str],
    ) -> None:
        self._node, self._monitor = node, monitor
        self._open_new, self._adopt = open_new, adopt
        self._under_way = False
        node.create_service(
            Trigger, "~/reload", self._on_request, callback_group=ReentrantCallbackGroup()
        )

    def begin(self) -> None:
        """Reload without a service call and log the result; ignored while a reload runs."""
        if self._under_way:
            return
        self._under_way = True
        self._start().add_done_callback(lambda opened: self._finish(opened.result()))

    def _start(self) -> Future:
        opened = waking_future(self._node)
        thread = threading.Thread(
            target=self._open, args=(opened,), name="disam_reload", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no memory for its stack, or too many of them
            opened.set_result(error)
        return opened

    def _finish(self, new: T | Exception) -> tuple[bool, str]:
        """Exchange map and model; returns whether it worked, and the log line or the reason."""
        self._under_way = False
        try:
            if isinstance(new, Exception):
                raise new
            text = self._adopt(new)
        except Exception as error:
            return False, self._refuse(error)
        self._monitor.solved(KEY)
        self._node.get_logger().info(text)
        return True, text

    async def _on_request(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._under_way:
            response.success, response.message = False, "a reload is under way: wait for its answer"
            return response
        self._under_way = True
        response.success, response.message = self._finish(await self._start())
        return response

    def _open(self, opened: Future) -> None:
        try:
            opened.set_result(self._open_new())
        except Exception as error:
            opened.set_result(error)

    def _refuse(self, error: Exception) -> str:
        text = f"reload failed, all goes on as before: {str(error) or type(error).__name__}"
        detail = ""
        if not isinstance(error, DisamError):
            detail = "\n" + "".join(traceback.format_exception(error))
        self._monitor.problem(KEY, text, ERROR, hold=None)
        self._node.get_logger().error(text + detail)
        return text
