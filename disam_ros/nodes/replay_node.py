# SPDX-License-Identifier: Apache-2.0
"""Plays a rosbag2 recording into ROS with /clock, where `ros2 bag play` is not installed."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.type_support import NoTypeSupportImportedException
from rosbags.interfaces import QosDurability
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from disam_ros.bags.messages import COMPRESSED_IMAGE, IMAGE
from disam_ros.bags.reader import BagReader
from disam_ros.config import ReplayNodeConfig
from disam_ros.errors import BagError, DisamError

CLOCK_PERIOD = 0.01  # seconds of wall time between two /clock messages, at most
CLOCK_TOPIC = "/clock"
IMAGE_DEPTH = 10  # messages kept for subscribers that lag behind
DEPTH = 100
MAX_LATCHED = 1000
ACK_TIMEOUT = 5.0  # seconds that subscribers get for the last messages


def replay(config: ReplayNodeConfig, node: Node | None = None) -> int:
    """Publish a bag's messages as serialized as they were recorded; returns how many.

    Publishes /clock before every message and at least every 10 ms of wall time. Ends with the bag
    (`loop`: never), or cleanly on Ctrl-C. Every publisher is reliable, so that best-effort and
    reliable subscribers both match; latched (transient_local) where the recording was. A recorded
    /clock and types that are not installed are left out with a warning.

    node: publishes; None makes one. Raises BagError (bag unreadable, topic unknown, nothing to
    play).
    """
    if not config.bag:
        raise BagError("no bag given; set the parameter 'bag' to a rosbag2 directory or file")
    with BagReader(config.bag) as reader, _given_or_own(node) as publisher_node:
        player = Player(publisher_node, reader, config)
        try:
            player.play()
        except (KeyboardInterrupt, ExternalShutdownException):
            publisher_node.get_logger().info(f"stopped after {player.published} messages")
        except rclpy_implementation.RCLError:
            if publisher_node.context.ok():  # otherwise: shut down in the middle of a call
                raise
        finally:
            player.close()
        return player.published


def main(args: list[str] | None = None) -> int:
    """The replay_node executable."""
    from disam_ros.nodes.parameters import declare

    rclpy.init(args=args)
    node = rclpy.create_node("replay_node", enable_rosout=False)
    try:
        replay(declare(node, ReplayNodeConfig), node)
    except DisamError as error:
        node.get_logger().fatal(str(error))
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


class Player:
    """Publishers for the topics of a bag, and the clock that paces them."""

    def __init__(self, node: Node, reader: BagReader, config: ReplayNodeConfig) -> None:
        self.published = 0
        self._node, self._reader, self._config = node, reader, config
        self._log = node.get_logger()
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)  # answers parameter services while waiting
        self._clock = node.create_publisher(Clock, CLOCK_TOPIC, 10)
        self._publishers = self._create_publishers()

    def play(self) -> None:
        """Wait for subscribers, then publish the bag (`loop`: again and again)."""
        self._wait_for_subscribers()
        self._play_once()
        while self._config.loop:
            self._log.info("bag ended; starting again: stamps and /clock jump back")
            self._play_once()
        self._wait_for_acknowledgements()
        self._log.info(f"bag ended: {self.published} messages published")

    def close(self) -> None:
        """Let go of the node; its publishers live as long as it does."""
        self._executor.remove_node(self._node)
        self._executor.shutdown()

    def _create_publishers(self) -> dict[str, Publisher]:
        """Recorded topic → publisher, for what is asked for and installed."""
        held = self._reader.topics()
        wanted = [topic for topic in self._config.topics if topic]
        for topic in wanted:
            self._reader.qos(topic)  # raises BagError that lists the topics
        publishers: dict[str, Publisher] = {}
        for topic in wanted or held:
            if topic == CLOCK_TOPIC:
                self._log.warning("the recorded /clock is not played: replay publishes its own")
                continue
            name = f"/{prefix}{topic}" if (prefix := self._config.prefix.strip("/")) else topic
            try:
                kind = _message_class(held[topic].type)
                publishers[topic] = self._node.create_publisher(kind, name, self._qos(topic))
            except (ImportError, AttributeError, NoTypeSupportImportedException) as error:
                self._log.warning(
                    f"{topic} is not played: its type {held[topic].type} is not installed ({error})"
                )
        if not any(held[topic].count for topic in publishers):
            raise BagError(f"bag {self._reader.path}: no message to play among {list(held)}")
        return publishers

    def _qos(self, topic: str) -> QoSProfile:
        held = self._reader.topics()[topic]
        recorded = self._reader.qos(topic)
        latched = topic == "/tf_static" or any(
            q.durability is QosDurability.TRANSIENT_LOCAL for q in recorded
        )
        if latched:  # several recorded publishers may each have latched something: keep all
            depth = max(1, min(held.count, MAX_LATCHED))
        else:
            depth = IMAGE_DEPTH if held.type in (IMAGE, COMPRESSED_IMAGE) else DEPTH
        return QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )

    def _wait_for_subscribers(self) -> None:
        """Until every topic has a subscriber, `start_delay` at most; the clock stands still."""
        end = time.monotonic() + self._config.start_delay
        while (left := end - time.monotonic()) > 0:
            self._publish_clock(self._reader.start_ns)
            if all(p.get_subscription_count() for p in self._publishers.values()):
                return
            self._executor.spin_once(timeout_sec=min(left, CLOCK_PERIOD))

    def _play_once(self) -> None:
        held = self._reader.topics()
        bar = tqdm(
            self._reader.raw(list(self._publishers)),
            total=sum(held[topic].count for topic in self._publishers),
            desc="replay",
            unit="msg",
            disable=None,  # no bar where stderr is no terminal
        )
        pacer: _Pacer | None = None
        for message in bar:
            if not self._node.context.ok():
                raise ExternalShutdownException
            pacer = pacer or _Pacer(message.stamp_ns, self._config.rate)
            self._wait_until(pacer, message.stamp_ns)
            self._publish_clock(message.stamp_ns)
            self._publishers[message.topic].publish(bytes(message.data))
            self.published += 1

    def _wait_until(self, pacer: _Pacer, stamp_ns: int) -> None:
        """Sleep until a message is due, with the clock running."""
        while (left := pacer.seconds_until(stamp_ns)) > 0:
            self._executor.spin_once(timeout_sec=min(left, CLOCK_PERIOD))
            self._publish_clock(min(pacer.now_ns(), stamp_ns))

    def _publish_clock(self, stamp_ns: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp_ns, 10**9)
        self._clock.publish(message)

    def _wait_for_acknowledgements(self) -> None:
        """Let reliable subscribers receive the last messages before the publishers vanish."""
        end = time.monotonic() + ACK_TIMEOUT
        for publisher in [*self._publishers.values(), self._clock]:
            left = max(0.0, end - time.monotonic())
            publisher.wait_for_all_acked(Duration(seconds=left))


class _Pacer:
    """Maps stamps of the recording to moments of wall time."""

    def __init__(self, start_ns: int, rate: float) -> None:
        self._start_ns, self._rate = start_ns, rate
        self._wall_start = time.monotonic()

    def seconds_until(self, stamp_ns: int) -> float:
        """Wall time left until a stamp is due; negative when it is late."""
        due = self._wall_start + (stamp_ns - self._start_ns) / 1e9 / self._rate
        return due - time.monotonic()

    def now_ns(self) -> int:
        """The stamp that is due now."""
        return self._start_ns + round((time.monotonic() - self._wall_start) * self._rate * 1e9)


@contextmanager
def _given_or_own(node: Node | None) -> Iterator[Node]:
    """The caller's node, or one of our own that is cleaned up."""
    if node is not None:
        yield node
        return
    started = not rclpy.ok()
    if started:
        rclpy.init()
    own = rclpy.create_node("replay_node", enable_rosout=False)
    try:
        yield own
    finally:
        own.destroy_node()
        if started:
            rclpy.try_shutdown()


def _message_class(kind: str) -> type:
    """'sensor_msgs/msg/Image' → the class. Raises ImportError or AttributeError."""
    package, *folders, name = kind.split("/")
    return getattr(importlib.import_module(".".join([package, *folders])), name)


if __name__ == "__main__":
    raise SystemExit(main())
