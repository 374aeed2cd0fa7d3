# SPDX-License-Identifier: Apache-2.0
"""What diagnostics and the log say of the images, the model and the map."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable

from rclpy.node import Node

from disam_ros.device import describe_device
from disam_ros.errors import BlindError, ImageError
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.result import Localization
from disam_ros.nodes.diagnostics import ERROR, Monitor
from disam_ros.nodes.localizer import answer_status

NO_ACTIVATION = "none: images are described as a whole"
BLIND, UNDECODABLE = "images blind", "images undecodable"
COUNTERS = ("images received", "images dropped", UNDECODABLE, BLIND, "stamps refused")
COUNTERS += ("places known", "places unknown", "inference errors")


class Reports:
    """Tells; keeps nothing but when images came."""

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor
        self._last_image: dict[str, float] = {}  # monotonic seconds by camera
        monitor.start_counts(*COUNTERS)

    def wait_for(self, cameras: Iterable[str]) -> None:
        """From now on images are expected; of none: no longer."""
        self._last_image = dict.fromkeys(cameras, time.monotonic())

    def arrived(self, camera: str) -> None:
        """An image came."""
        self._monitor.mark("images in")
        self._monitor.count("images received")
        self._last_image[camera] = time.monotonic()

    def check_age(self, cameras: Iterable[str], limit: float) -> None:
        """Tell cameras from which no image came for `limit` seconds."""
        for camera in cameras:
            age = time.monotonic() - self._last_image.get(camera, time.monotonic())
            if age > limit:
                text = f"no image of camera '{camera}' for more than {limit:g} s: check its topic"
                self._monitor.problem(f"age of {camera}", text, hold=None)
            else:
                self._monitor.solved(f"age of {camera}")

    def links(self, publishers: int, listeners: int) -> None:
        """Tell how many publishers of images and listeners to the answers are connected."""
        self._monitor.fact("image publishers", publishers)
        self._monitor.fact("answer subscribers", listeners)

    def answered(self, found: Localization, latency: float, least: float) -> str:
        """Tell an answer; gives it in words. latency: ms from the image's arrival. least: what its
        confidence was compared with."""
        monitor, sure = self._monitor, answer_status.sure(found)
        monitor.latency("callback to published", latency)
        for stage, milliseconds in found.timings_ms.items():
            monitor.latency(f"localize {stage}", milliseconds)
        monitor.mark("images out")
        monitor.fact("domain", found.domain.name)
        monitor.fact("domain reason", found.domain.reason)
        monitor.fact("last score", f"{found.best.fine_score:.3f}")
        if found.estimate is not None:
            monitor.fact("probability", f"{found.estimate.probability:.3f}")
            monitor.fact("probability of the map", f"{found.estimate.on_map:.3f}")
        key = f"place of {found.camera}"
        if found.known:
            monitor.count("places known")
            monitor.solved(key)
            return f"camera {found.camera}: map image {found.record.id}, {sure}"
        monitor.count("places unknown")
        text = f"unknown place, {sure} < {least:g}"
        monitor.problem(key, text, hold=None)
        return text

    def failed(self, error: Exception) -> str:
        """Tell an image that got no answer, and why."""
        log = self._node.get_logger()
        if isinstance(error, ImageError):
            self._monitor.count(BLIND if isinstance(error, BlindError) else UNDECODABLE)
            text = f"image skipped: {error}"
            if self._monitor.problem("image", text):
                log.warning(text)
            return text
        self._monitor.count("inference errors")
        text = f"localization failed: {error or type(error).__name__}"
        if self._monitor.problem("inference", text, ERROR):
            log.error(f"{text}\n{''.join(traceback.format_exception(error))}")
        return text

    def identity(self, localizer: Localizer) -> str:
        """Tell what runs; gives it in words."""
        monitor, place_map, model = self._monitor, localizer.map, localizer.model
        device = describe_device(localizer.device)
        monitor.fact("device", device)
        monitor.fact("model", f"{model.name} {model.identity[:12]}")
        monitor.fact("map", f"{place_map.directory}, {len(place_map)} images")
        monitor.fact("map frame", place_map.header.map_frame)
        if localizer.has_activation_maps:
            monitor.fact("activation map", "on ~/activation_map")
        else:
            monitor.fact("activation map", NO_ACTIVATION)
            self._node.get_logger().info(f"~/activation_map: {NO_ACTIVATION}")
        return (
            f"map {place_map.directory} ({len(place_map)} images, cameras "
            f"{', '.join(place_map.cameras())}), model {model.name} on {device}"
        )
