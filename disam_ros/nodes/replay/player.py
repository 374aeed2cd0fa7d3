# SPDX-License-Identifier: Apache-2.0
"""Publishes the messages of a bag with /clock, at the pace of the recording or of its consumer."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable

from rclpy.duration import Duration
from rclpy.exceptions import NoTypeSupportImportedException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from disam_ros.datasets.bags.image_topics import IMAGE_TYPES
from disam_ros.datasets.bags.messages import serialized_stamp_ns
from disam_ros.datasets.bags.reader import BagReader, RawMessage
from disam_ros.errors import BagError, DisamError
from disam_ros.node_config import ReplayConfig
from disam_ros.nodes.rclpy_extra.process import InterruptibleExecutor

CLOCK_PERIOD = 0.01  # longest wall time between two /clock messages [s]
CLOCK_TOPIC = "/clock"
SETTLING = 0.25  # time in which a subscriber that was found finds the publisher in turn [s]
IMAGE_DEPTH = 10  # messages kept for subscribers that lag behind
DEPTH = 100
MAX_LATCHED = 1000
ACK_TIMEOUT = 30.0  # time that subscribers get for the last messages [s]
ACK_SLICE = 0.2  # longest wait in which a signal is not seen [s]
ANSWER_TIMEOUT = 30.0  # time that an image may take at rate 0 [s]


class Player:
    """Publishes the topics of a bag at the pace of the recording or of its consumer.

    answers: returns the number of answers to images with a stamp [ns]; may raise an error to end
    the replay. At rate 0 nothing is published after an image until that number rises,
    ANSWER_TIMEOUT at most; without `answers` rate 0 does not wait at all. deliver: called after
    each other message at rate 0; returns a check whether the consumer has handled it, for which the
    player then waits. ready: must become true, and every topic must have a subscriber, within
    `start_delay`; without it playing begins then in any case. The node's callbacks run in between.
    """

    def __init__(
        self,
        node: Node,
        reader: BagReader,
        config: ReplayConfig,
        answers: Callable[[int], int] | None = None,
        ready: Callable[[], bool] | None = None,
        deliver: Callable[[], Callable[[], bool]] | None = None,
    ) -> None:
        self.published = 0  # number of messages
        self.sent: list[int] = []  # stamps [ns] of the images published
        self.first_image = 0.0  # time of the first image on the monotonic clock [s]
        self.unanswered = 0  # number of images whose answer took too long
        self._node, self._reader, self._config = node, reader, config
        self._answers, self._ready, self._deliver = answers, ready, deliver
        self._log = node.get_logger()
        self._executor = InterruptibleExecutor(context=node.context)
        self._executor.add_node(node)
        self._clock = node.create_publisher(Clock, CLOCK_TOPIC, 10)
        self._publishers = self._create_publishers()

    def play(self) -> None:
        """Waits for subscribers, then publishes the bag (`loop`: again and again).

        Raises DisamError if nobody becomes `ready`.
        """
        self._wait_for_subscribers()
        self._play_once()
        while self._config.loop:
            self._log.info("bag ended; starting again: stamps and /clock jump back")
            self._play_once()
        self._wait_for_acknowledgements()
        self._log.info(f"bag ended: {self.published} messages published")

    def close(self) -> None:
        """Releases the node; its publishers live as long as it does."""
        self._executor.remove_node(self._node)
        self._executor.shutdown()

    def _create_publishers(self) -> dict[str, Publisher]:
        """Makes a publisher for each topic to play whose type is installed."""
        held = self._reader.topics()
        chosen = [topic for topic in self._config.topics if topic]
        for topic in chosen:
            self._reader.qos(topic)  # raises BagError that lists the topics
        publishers: dict[str, Publisher] = {}
        for topic in chosen or held:
            if topic == CLOCK_TOPIC:
                self._log.warning("the recorded /clock is not played: replay publishes its own")
                continue
            name = f"/{prefix}{topic}" if (prefix := self._config.prefix.strip("/")) else topic
            try:
                kind = message_class(held[topic].type)
                publishers[topic] = self._node.create_publisher(kind, name, self._qos(topic))
            except (ImportError, AttributeError, NoTypeSupportImportedException):
                self._log.info(f"{topic} is not played: {held[topic].type} is not installed")
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
            depth = IMAGE_DEPTH if held.type in IMAGE_TYPES else DEPTH
        return QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )

    def _wait_for_subscribers(self) -> None:
        """Waits until every topic has had a subscriber for SETTLING, at most `start_delay`.

        The clock stands still.
        """
        end, matched = time.monotonic() + self._config.start_delay, math.inf
        while (left := end - (now := time.monotonic())) > 0:
            self._publish_clock(self._reader.start_ns)
            if self._unmatched() or (self._ready is not None and not self._ready()):
                matched = math.inf
            else:
                matched = min(matched, now)
                if now - matched >= SETTLING:
                    return
            self._executor.spin_once(timeout_sec=min(left, CLOCK_PERIOD))
        if self._ready is not None and matched == math.inf:
            raise DisamError(
                f"after {self._config.start_delay:g} s nobody is connected to receive and answer "
                f"images; topics without a subscriber: {', '.join(self._unmatched()) or 'none'}"
            )

    def _unmatched(self) -> list[str]:
        """Returns the topics without a subscriber."""
        return [t for t, p in self._publishers.items() if not p.get_subscription_count()]

    def _play_once(self) -> None:
        held = self._reader.topics()
        bar = tqdm(
            self._reader.raw(list(self._publishers)),
            total=sum(held[topic].count for topic in self._publishers),
            desc="replay",
            unit="msg",
            disable=None,  # no bar where stderr is no terminal
        )
        pacer: Pacer | None = None
        for message in bar:
            if not self._node.context.ok():
                raise ExternalShutdownException
            pacer = pacer or Pacer(message.stamp_ns, self._config.rate)
            self._wait_until(pacer, message.stamp_ns)
            self._publish_clock(message.stamp_ns)
            if message.type in IMAGE_TYPES:
                self._publish_image(message)
            else:
                self._publish(message)
                if self._deliver is not None and not self._config.rate:
                    self._executor.spin_until(self._deliver(), ANSWER_TIMEOUT)

    def _publish(self, message: RawMessage) -> None:
        self._publishers[message.topic].publish(bytes(message.data))
        self.published += 1

    def _publish_image(self, message: RawMessage) -> None:
        """Publishes an image; at rate 0 waits until it is answered."""
        stamp_ns, answers = serialized_stamp_ns(message.data), self._answers
        before = answers(stamp_ns) if answers else 0
        self.first_image = self.first_image or time.monotonic()
        self.sent.append(stamp_ns)
        self._publish(message)
        if answers is None or self._config.rate:
            return
        if not self._executor.spin_until(lambda: answers(stamp_ns) > before, ANSWER_TIMEOUT):
            self.unanswered += 1
            self._log.warning(f"no answer within {ANSWER_TIMEOUT:g} s to image {stamp_ns} ns")

    def _wait_until(self, pacer: Pacer, stamp_ns: int) -> None:
        """Sleeps until a message is due, with the clock running; runs a callback at least."""
        left = pacer.seconds_until(stamp_ns)
        self._executor.spin_once(timeout_sec=max(0.0, min(left, CLOCK_PERIOD)))
        while (left := pacer.seconds_until(stamp_ns)) > 0:
            self._publish_clock(min(pacer.now_ns(), stamp_ns))
            self._executor.spin_once(timeout_sec=min(left, CLOCK_PERIOD))

    def _publish_clock(self, stamp_ns: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp_ns, 10**9)
        self._clock.publish(message)

    def _wait_for_acknowledgements(self) -> None:
        """Lets reliable subscribers receive the last messages before the publishers vanish."""
        end = time.monotonic() + ACK_TIMEOUT
        late = [*self._publishers.values(), self._clock]
        while (left := end - time.monotonic()) > 0:
            late = [
                p for p in late if not p.wait_for_all_acked(Duration(seconds=min(left, ACK_SLICE)))
            ]
            if not late:
                return
            self._executor.spin_once(timeout_sec=0.0)
        topics = ", ".join(publisher.topic_name for publisher in late)
        self._log.warning(
            f"a subscriber did not confirm the last messages within {ACK_TIMEOUT:g} s: {topics}"
        )


class Pacer:
    """Maps stamps of the recording to moments of wall time; at rate 0 everything is due."""

    def __init__(self, start_ns: int, rate: float) -> None:
        self._start_ns, self._rate = start_ns, rate
        self._wall_start = time.monotonic()

    def seconds_until(self, stamp_ns: int) -> float:
        """Returns the wall time left until a stamp is due [s]; negative when it is late."""
        if not self._rate:
            return 0.0
        due = self._wall_start + (stamp_ns - self._start_ns) / 1e9 / self._rate
        return due - time.monotonic()

    def now_ns(self) -> int:
        """Returns the stamp that is due now."""
        return self._start_ns + round((time.monotonic() - self._wall_start) * self._rate * 1e9)


def message_class(kind: str) -> type:
    """Returns the class of 'sensor_msgs/msg/Image'. Raises ImportError or AttributeError."""
    package, *folders, name = kind.split("/")
    message: type = getattr(importlib.import_module(".".join([package, *folders])), name)
    return message
