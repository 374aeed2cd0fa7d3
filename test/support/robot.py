# SPDX-License-Identifier: Apache-2.0
"""A robot with a camera: sends images to a running localizer node and hears its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped

from support.data import texture
from support.maps import START_S
from support.messages import image_message, values
from support.node_process import NodeProcess
from support.ros import Client

NODE = "/localizer"


class Robot:
    """Its images are taken one second after the other.

    topics: further topics → types, which are collected in `heard`. Entering it waits until the node
    is active and answers reach this client.
    """

    def __init__(self, process: NodeProcess, topics: Mapping[str, type] | None = None) -> None:
        self.process, self.client, self.second = process, Client(NODE), 0
        self.poses: list[PoseStamped] = self.client.collect(PoseStamped, f"{NODE}/pose")
        self.heard: dict[str, list] = {
            topic: self.client.collect(kind, topic) for topic, kind in (topics or {}).items()
        }
        # The last: a node that knows this subscription knows those made before it.
        self.answers: list[DiagnosticArray] = self.client.collect(DiagnosticArray, f"{NODE}/answer")

    def __enter__(self) -> Robot:
        self.client.diagnosis(
            lambda s: (
                values(s).get("state") == "active"
                and int(values(s).get("answer subscribers", 0)) > 0
            ),
            "active, with a listener to its answers",
            since=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def send(self, message: Any, topic: str = "image") -> Any:
        """Publish an image, one second after the last; returns the message."""
        self.second += 1
        message.header.stamp.sec = START_S + self.second
        self.client.publish(topic, message)
        return message

    def ask(self, message: Any, topic: str = "image") -> DiagnosticArray:
        """The message on ~/answer to an image that is sent now."""
        before = len(self.answers)  # a stamp may come again
        sent = self.send(message, topic)
        return self.of_image(self.answers, sent, before)

    def answer(self, image: np.ndarray) -> dict[str, str]:
        """The key-values of the answer to an image, uint8 RGB."""
        return values(self.ask(image_message(image)).status[0])

    def localize(self, index: int) -> PoseStamped:
        """The pose that comes back for texture number `index`."""
        before = len(self.poses)
        sent = self.send(image_message(texture(index)))
        return self.of_image(self.poses, sent, before)

    def of_image(self, messages: list, sent: Any, start: int = 0) -> Any:
        """The message, of those from `start` on, with the stamp of an image."""
        stamp = sent.header.stamp
        return self.client.until(
            lambda: next((m for m in messages[start:] if m.header.stamp == stamp), None),
            f"an answer to the image of {stamp.sec} s",
        )

    def of_moment(self, second: int, count: int) -> list[DiagnosticArray] | None:
        """All answers to images of that stamp [s] once there are `count`; None before."""
        result = [each for each in self.answers if each.header.stamp.sec == second]
        return result if len(result) >= count else None

    def deliver(self, topic: str, message: Any) -> None:
        """Send what belongs to the next image; returns once the node has handled it."""
        if hasattr(message, "header"):
            message.header.stamp.sec = START_S + self.second + 1
        self.client.deliver(topic, message)

    def set(self, name: str, value: Any) -> None:
        """Set a parameter of the node."""
        result = self.client.set_parameter(name, value)
        assert result.successful, result.reason

    def restart(self) -> None:
        """Through cleanup to active again, as after a fresh start."""
        for label in ("deactivate", "cleanup", "configure", "activate"):
            assert self.client.transition(label), label
        self.reconnect()

    def reconnect(self) -> None:
        """Return once images are answered by topics that the node has made again."""
        before = len(self.answers)
        self.client.until(
            lambda: len(self.answers) > before,
            "an answer of the node that began again",
            again=lambda: self.send(image_message(texture(0))),
        )
        self.client.barrier()
