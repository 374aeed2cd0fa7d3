# SPDX-License-Identifier: Apache-2.0
"""Raw and compressed image input: subscription, stamps, advice where no images come; its worker.

The worker thread has bounded queues: the executor never waits, the oldest items are dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image

from disam_ros.camera import is_rectified
from disam_ros.files.paths import FAST_DDS, LARGE_IMAGES, profile
from disam_ros.localization.checks import StampOrder
from disam_ros.nodes.conversions import stamp_to_ns
from disam_ros.nodes.rclpy_extra.diagnostics import IMAGES, Monitor, type_name
from disam_ros.nodes.rclpy_extra.subscriptions import (
    TOO_SLOW,
    Mismatch,
    Subscriptions,
    sensor_qos,
)
from disam_ros.nodes.rclpy_extra.waiting import steady_timer

LISTED = 5  # topics named in a warning
T = TypeVar("T")


def image_topic(camera_topic: str, transport: str) -> str:
    """The topic of a camera's images by a transport."""
    return f"{camera_topic}/compressed" if transport == "compressed" else camera_topic


class ImageInput:
    """A subscription to an image topic or, with transport 'compressed', to its `/compressed`.

    It begins reliable, so that large images arrive whole, and turns to best effort when a publisher
    offers no more, unless the user overrides the reliability with `qos_overrides`. callback: takes
    messages between `listen` and `pause`, each with its stamp [ns], None where that cannot be the
    capture time. stamps: 'header', or 'received': images get the time at which they come.
    """

    def __init__(
        self,
        node: Node,
        camera: str,
        camera_topic: str,
        transport: str,
        callback: Callable[[Image | CompressedImage, int | None], None],
        monitor: Monitor,
        stamps: str = "header",
    ) -> None:
        compressed = transport == "compressed"
        self._node, self._camera, self._monitor = node, camera, monitor
        self._callback, self._is_restamped = callback, stamps == "received"
        self._order = StampOrder()
        self._last: float | None = None  # image, or `listen`, on the monotonic clock [s]
        self._kind = CompressedImage if compressed else Image
        self._topic = image_topic(camera_topic, transport)
        self._remedy = TOO_SLOW if compressed else _remedy_of_large_images()
        self._fallback: Timer | None = None
        self._subscriptions = Subscriptions(node, monitor)
        self._subscription = self._subscribe("reliable")

    def listen(self) -> None:
        """Expect images from now on."""
        self._last = time.monotonic()

    def pause(self) -> None:
        """Leave out images from now on."""
        self._last = None

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._last is None:
            return
        self._last = time.monotonic()
        self._monitor.mark("images in")
        self._monitor.count("images received")
        if self._is_restamped:
            message.header.stamp = self._node.get_clock().now().to_msg()
        self._callback(message, self._usable(stamp_to_ns(message.header)))

    def _usable(self, stamp_ns: int) -> int | None:
        """The stamp; None, with a warning, where it cannot be the capture time."""
        camera = self._camera
        usable = self._order.usable(camera, stamp_ns)
        if usable is None:
            text = f"stamps of camera '{camera}' go backwards; the clock jumped or a bag restarted"
            if not stamp_ns:
                text = (
                    f"images of camera '{camera}' carry no stamp; let the driver set it, or set "
                    "stamps: received"
                )
            self._monitor.warn_once(f"stamp of {camera}", text)
            self._monitor.count("stamps refused")
        return usable

    def is_silent(self, limit: float) -> bool:
        """Whether no image came for `limit` seconds, which is reported with what to do."""
        silent = self._last is not None and time.monotonic() - self._last > limit
        text = f"no image of camera '{self._camera}' for more than {limit:g} s: "
        text = text + self._advice() if silent else ""
        self._monitor.lasting(f"age of {self._camera}", text)
        return silent

    @property
    def rectified(self) -> bool:
        """Whether the images are rectified, by the name of their topic."""
        return is_rectified(self._node.resolve_topic_name(self._topic))

    def publisher_count(self) -> int:
        """Number of matched publishers."""
        return self._subscription.get_publisher_count()

    def describe(self) -> str:
        """The topic and its type."""
        return f"{self._node.resolve_topic_name(self._topic)} ({type_name(self._kind)})"

    def _advice(self) -> str:
        """Why no images come, by what is published here, and what to do."""
        node, name = self._node, self._node.resolve_topic_name(self._topic)
        kinds = {info.topic_type for info in node.get_publishers_info_by_topic(name)}
        if kinds:
            if type_name(self._kind) in kinds and self._subscriptions.loses(self._topic):
                return f"all are lost on the way; {self._remedy}"
            if type_name(self._kind) in kinds:
                return f"the publisher of {name} sends nothing: check the camera"
            return f"{name} is published as {', '.join(sorted(kinds))}: remap {self._topic}"
        others = _published_images(node)
        compressed = self._kind is CompressedImage
        other = name.removesuffix("/compressed") if compressed else f"{name}/compressed"
        if other in others:
            transport = "raw" if compressed else "compressed"
            return f"it is not published, but {other} is: set image_transport to {transport}"
        if others:
            return f"it is not published; remap {self._topic}, images are on {', '.join(others)}"
        return "no images are published at all: start the camera, check ROS_DOMAIN_ID"

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._fallback is not None:
            self._node.destroy_timer(self._fallback)
        self._subscriptions.destroy()

    def _is_overridden(self) -> bool:
        """Whether the user set the reliability of this very subscription."""
        name = self._node.resolve_topic_name(self._topic)
        return f"qos_overrides.{name}.subscription.reliability" in self._node._parameter_overrides

    def _subscribe(
        self, reliability: str, overriding: QoSOverridingOptions | None = None
    ) -> Subscription:
        plain = overriding is not None or self._is_overridden()
        return self._subscriptions.add(
            self._kind,
            self._topic,
            self._on_image,
            sensor_qos(reliability),
            remedy=self._remedy,
            overriding=overriding,
            on_mismatch=None if plain else self._plan_fallback,
        )

    def _plan_fallback(self, event: Mismatch) -> None:
        if qos_policy_name_from_kind(event.last_policy_kind) != "RELIABILITY":
            self._subscriptions.report_mismatch(self._topic, event)
        elif self._fallback is None:  # in a timer: the event still needs the subscription
            self._fallback = steady_timer(self._node, 0.0, self._fall_back)

    def _fall_back(self) -> None:
        if self._fallback is not None:
            self._fallback.cancel()
        self._subscriptions.destroy()
        others = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))
        self._subscription = self._subscribe("best_effort", others)
        name = self._node.resolve_topic_name(self._topic)
        self._node.get_logger().info(f"{name} is offered as best effort: subscribing that way")


def _published_images(node: Node) -> list[str]:
    """Topics with a publisher of images, raw or compressed, sorted, at most LISTED."""
    offered = node.get_topic_names_and_types()
    names = [name for name, kinds in offered if not set(IMAGES).isdisjoint(kinds)]
    prefix = f"{node.get_fully_qualified_name()}/"
    others = (n for n in names if not n.startswith(prefix) and node.count_publishers(n))
    return sorted(others)[:LISTED]


def _remedy_of_large_images() -> str:
    """Return what helps against lost images, too large for the publisher's shared memory."""
    remedy = "set image_transport to compressed, or let the driver publish them reliably"
    if get_rmw_implementation_identifier() in FAST_DDS:
        for variable, path in list(profile(LARGE_IMAGES).items())[:1]:
            remedy += f", or start the driver (not this node) with {variable}={path}"
    return remedy


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
