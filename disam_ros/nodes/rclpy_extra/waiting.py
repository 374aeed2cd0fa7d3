# SPDX-License-Identifier: Apache-2.0
"""What the executor waits for: timers that go on while simulated time stands still, futures that
wake it, no events of publishers.

rclpy collects all that it waits for anew after every callback, in Python, while no other thread can
run: what nobody handles is not waited for.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from rclpy.timer import Timer

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks


def steady_timer(node: Node, period: float, callback: Callable[[], None]) -> Timer:
    """A timer on the steady clock. period: between two calls [s]."""
    return node.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def waking_future(node: Node) -> Future:
    """A future that a service may await and another thread may answer."""
    future = Future(executor=node.executor)
    future.add_done_callback(lambda _: None)  # without a callback the executor sleeps on
    return future


def no_events() -> PublisherEventCallbacks:
    """Events of a publisher that are handled: none. A subscriber whose QoS or type does not fit
    reports that itself."""
    return PublisherEventCallbacks(use_default_callbacks=False)
