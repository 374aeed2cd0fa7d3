# SPDX-License-Identifier: Apache-2.0
"""Timers that go on while simulated time stands still, and futures that wake the executor."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from rclpy.timer import Timer


def steady_timer(node: Node, period: float, callback: Callable[[], None]) -> Timer:
    """A timer on the steady clock. period: between two calls [s]."""
    return node.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def waking_future(node: Node) -> Future:
    """A future that a service may await and another thread may answer."""
    future = Future(executor=node.executor)
    future.add_done_callback(lambda _: None)  # without a callback the executor sleeps on
    return future
