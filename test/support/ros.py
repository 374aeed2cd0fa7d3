# SPDX-License-Identifier: Apache-2.0
"""A ROS node inside the test: publishes, collects and calls services of the node under test.

Nothing here waits for a time to pass. Diagnostics are all kept, so that a problem which is shown
for three seconds is found however busy the machine is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from std_srvs.srv import Trigger

from disam_ros.nodes.rclpy_extra.starting import starting
from support.messages import values
from support.node_process import require_running

DOMAIN_ID = int(os.environ["ROS_DOMAIN_ID"])  # claimed by conftest.py
DEADLINE = 120.0  # seconds after which something that should happen counts as not happening
REPEAT = 0.5  # seconds between two sendings of a message that may be lost
REQUESTS = 20  # unanswered ones, after which another client asks


class Client:
    """Spins only while it waits for something. peer: name of the node under test."""

    def __init__(self, peer: str, name: str = "client") -> None:
        self._peer = peer
        self._context = Context()
        with starting():
            rclpy.init(context=self._context, domain_id=DOMAIN_ID)
            self.node = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self._services: dict[str, Any] = {}
        self._diagnostics: list[DiagnosticArray] = self.collect(DiagnosticArray, "/diagnostics")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, node: Any) -> None:
        """Spin another node of this process, too."""
        self._executor.add_node(node)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def until(
        self, condition: Callable[[], Any], what: str, timeout: float = DEADLINE, again: Any = None
    ) -> Any:
        """Spin until a condition holds; returns its value.

        again: called at first and twice a second while it does not hold.
        """
        end, next_time = time.monotonic() + timeout, 0.0
        while True:
            now = time.monotonic()
            if again is not None and now >= next_time:
                again()
                next_time = now + REPEAT
            self.spin()
            if value := condition():
                return value
            require_running()
            assert now < end, f"waited {timeout:g} s in vain for {what}"

    def spin(self) -> None:
        """Run the callbacks of what has arrived, or arrives soon."""
        self._executor.spin_once(timeout_sec=0.02)

    # Topics.

    def collect(self, kind: type, topic: str) -> list:
        """A list that grows with the messages of a topic."""
        messages: list = []
        self.node.create_subscription(kind, topic, messages.append, 100)
        return messages

    def publisher(self, kind: type, topic: str, reliable: bool = True) -> Any:
        """The publisher of a topic, connected to all its subscribers, at least one.

        One alone may be of this process, or of a node that was killed and is not missed yet.
        """
        if topic not in self._publishers:
            reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            qos = QoSProfile(depth=100, reliability=reliability)
            publisher = self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
            self.until(publisher.get_subscription_count, f"a subscriber of {topic}")
            self._be_known()
            self.until(
                lambda: (
                    publisher.get_subscription_count()
                    >= self.node.count_subscribers(publisher.topic_name)
                ),
                f"a connection to all subscribers of {topic}",
            )
        return self._publishers[topic]

    def publish(self, topic: str, message: Any) -> None:
        """Send a message."""
        self.publisher(type(message), topic).publish(message)

    def deliver(self, topic: str, message: Any) -> None:
        """Send a message and return once the peer has handled it.

        The request of `barrier` travels behind it.
        """
        self.publish(topic, message)
        self.barrier()

    def repeat(self, topic: str, message: Any, effect: Callable[[], Any], what: str) -> Any:
        """Send a message, which may be lost, until its effect is seen; returns that."""
        publisher = self.publisher(type(message), topic)
        return self.until(effect, what, again=lambda: publisher.publish(message))

    # Services.

    def barrier(self) -> None:
        """Return once the peer has handled the messages that had reached it before.

        Its executor runs the callbacks of topics before those of services.
        """
        request = GetParameters.Request(names=["use_sim_time"])
        name = f"{self._peer}/get_parameters"
        self.until(self.request(GetParameters, name, request).done, "a barrier")

    def request(self, kind: type, name: str, request: Any) -> Future:
        """A future with the answer of a service of the peer."""
        if name not in self._services:
            self._services[name] = self.node.create_client(kind, name)
            self.until(self._services[name].service_is_ready, f"service {name}")
            self._be_known()
        return self._services[name].call_async(request)

    def _be_known(self) -> None:
        """Return once the peer knows all publishers, subscriptions and service clients made here.

        It loses messages, and drops answers, of those that it does not know yet. It learns of them
        in the order in which they were made: when it answers a new client, it knows all before.
        One client in thousands is never answered, however often it asks: another takes its place.
        """
        name = f"{self._peer}/get_parameters"
        request, answers = GetParameters.Request(names=["use_sim_time"]), []
        probes: list[Any] = []

        def ask() -> None:
            if len(answers) >= REQUESTS * len(probes):
                probes.append(self.node.create_client(GetParameters, name))
                self.until(probes[-1].service_is_ready, f"service {name}")
            answers.append(probes[-1].call_async(request))

        before = len(self._diagnostics)
        try:
            self.until(
                lambda: any(answer.done() for answer in answers), f"an answer of {name}", again=ask
            )
        except AssertionError as error:
            heard = f"{len(self._diagnostics) - before} diagnostics came"
            raise AssertionError(
                f"{error}: {len(answers)} requests of {len(probes)} clients, {heard}"
            ) from None
        for probe in probes:
            self.node.destroy_client(probe)

    def call(self, kind: type, name: str, request: Any) -> Any:
        """The answer of a service."""
        future = self.request(kind, name, request)
        self.until(future.done, f"an answer of {name}")
        return future.result()

    def transition(self, label: str) -> bool:
        request = ChangeState.Request(transition=Transition(label=label))
        return self.call(ChangeState, f"{self._peer}/change_state", request).success

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, f"{self._peer}/set_parameters", request).results[0]

    def trigger(self, name: str) -> Trigger.Response:
        """The answer of ~/name."""
        return self.call(Trigger, f"{self._peer}/{name}", Trigger.Request())

    def ask(self, name: str) -> Future:
        """A future with the answer of ~/name."""
        return self.request(Trigger, f"{self._peer}/{name}", Trigger.Request())

    # Diagnostics.

    def now(self) -> int:
        """A moment [ns], from which to take diagnostics."""
        return time.time_ns()

    def diagnosis(
        self, condition: Callable[[DiagnosticStatus], bool], what: str, since: int | None = None
    ) -> DiagnosticStatus:
        """The first diagnostic status that fulfils a condition, of those made since a moment.

        since: see `now`; None: from this call on.
        """
        since = self.now() if since is None else since

        def found() -> DiagnosticStatus | None:
            return next((s for s in self._statuses(since) if condition(s)), None)

        try:
            return self.until(found, f"diagnostics that say: {what}")
        except AssertionError as error:
            last = self._diagnostics[-1].status[0].message if self._diagnostics else "nothing"
            raise AssertionError(f"{error}; they said last: {last}") from None

    def problem(self, words: str, since: int) -> DiagnosticStatus:
        """The first diagnostic status since a moment whose message contains some words."""
        return self.diagnosis(lambda s: words in s.message, words, since)

    def facts(self) -> dict[str, str]:
        """The key-values of a diagnostic status that is made after this call."""
        return values(self.diagnosis(lambda s: True, "anything"))

    def _statuses(self, since: int) -> list[DiagnosticStatus]:
        recent = []
        for message in reversed(self._diagnostics):
            stamp = message.header.stamp
            if stamp.sec * 10**9 + stamp.nanosec < since:
                break
            recent.extend(message.status)
        return recent[::-1]
