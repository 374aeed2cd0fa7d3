# SPDX-License-Identifier: Apache-2.0
"""~/match_image: the query, the map image that it matches and the activation map, side by side.

Drawn on a thread of its own, after the answer was published, and only while somebody subscribes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from disam_ros.errors import DisamError
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import KNOWN, UNKNOWN, Answer, Query
from disam_ros.mapping.thumbnails import shrink
from disam_ros.nodes import conversions, match_picture
from disam_ros.nodes.image_input import Worker
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.localizer.publishers.answer_status import probability_text
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

RATE = 5.0  # images a second, at most [Hz]
DEPTH = 1
NO_THUMBNAIL, NO_HEAT = "the map has no thumbnail of it", "none: global descriptors"


@dataclass(frozen=True)
class Match:
    """A localized image."""

    localizer: Localizer
    query: Query
    answer: Answer
    header: Header  # of the image's message


class Pace:
    """Lets through at most `rate` events a second on average, which need not be on time."""

    def __init__(self, rate: float) -> None:
        self._period, self._next = 1.0 / rate, 0.0  # [s]

    def due(self, now: float) -> bool:
        """Whether an event at a time [s] is let through."""
        if now < self._next:
            return False
        self._next = max(self._next, now - self._period / 2) + self._period
        return True


class MatchImages(Part):
    """Publishes match images between `start` and `stop`. guard: reports an error of its block."""

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        guard: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        super().__init__(node, monitor)
        self._guard = guard
        self._image = self._publisher(Image, "~/match_image", DEPTH)
        self._worker: Worker[Match] | None = None
        self._pace = Pace(RATE)

    def start(self) -> None:
        """Begin to draw."""
        self._worker = Worker(self._publish, lambda error: None)

    def stop(self) -> None:
        """Stop after the current one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def destroy(self) -> None:
        """Stop, and give back the topic."""
        self.stop()
        super().destroy()

    def offer(self, match: Match) -> None:
        """Draw it if somebody subscribes and the last one was long enough ago."""
        worker = self._worker
        if worker is None or not self._image.get_subscription_count():
            return
        if self._pace.due(time.monotonic()):
            worker.offer("", match)

    def _publish(self, match: Match) -> None:
        with self._guard("the match image"):
            picture = self._draw(match)
            message = conversions.image_to_message(picture, match.header, "bgr8")
            if self._worker is not None and self._node.context.ok():  # not stopped meanwhile
                self._image.publish(message)

    def _draw(self, match: Match) -> NDArray[np.uint8]:
        localizer, answer = match.localizer, match.answer
        query = shrink(match.query.frame.image, match_picture.WIDTH)
        heat: NDArray[np.uint8] | str = NO_HEAT
        if localizer.has_activation_maps:
            activation = localizer.activation_map(match.query, answer.record)
            heat = match_picture.overlay_heat(query, activation)
        shown = query, self._thumbnail(match), heat
        titles = f"camera {answer.camera}", f"map image {answer.record.id}", "where it looked"
        return match_picture.compose(shown, titles, caption(answer))

    def _thumbnail(self, match: Match) -> NDArray[np.uint8] | str:
        try:
            thumbnail = match.localizer.map.thumbnail(match.answer.record.id)
        except DisamError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=60.0)
            thumbnail = None
        return NO_THUMBNAIL if thumbnail is None else thumbnail


def caption(answer: Answer) -> str:
    """State, probability and place in words."""
    state = KNOWN if answer.known else UNKNOWN
    x, y, _ = answer.map_from_base.translation
    yaw = Rotation.from_quat(answer.map_from_base.quaternion).as_euler("ZYX", degrees=True)[0]
    place = f"x {x:.1f} m, y {y:.1f} m, yaw {yaw:.0f} deg"
    return f"{state}, {probability_text(answer)}, {place}, {answer.domain.name}"
