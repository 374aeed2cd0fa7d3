# SPDX-License-Identifier: Apache-2.0
"""Log and diagnostics of images, answers, model and map."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.node import Node

from disam_ros.device import describe_device
from disam_ros.errors import BlindError, DisamError, ImageError, MapError
from disam_ros.localization.checks import REMEDY
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Answer
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, Monitor
from disam_ros.nodes.rclpy_extra.process import describe

NO_ACTIVATION = "none: the model has one global descriptor per image"
DOUBTED, TRUSTED = 0.9, 0.5  # probability that a camera sees nothing of the map
BLIND, UNDECODABLE = "images blind", "images undecodable"
COUNTERS = (
    "images received",
    "images dropped",
    UNDECODABLE,
    BLIND,
    "stamps refused",
    "places known",
    "places unknown",
    "inference errors",
)


class Reports:
    """Writes diagnostics and log, of each camera by its last image and answer."""

    def __init__(self, node: Node, monitor: Monitor) -> None:
        self._node, self._monitor = node, monitor
        self._last_known: dict[str, bool] = {}
        self._posed: set[str] = set()  # cameras that had a pose
        monitor.start_counts(*COUNTERS)

    def restart(self) -> None:
        """Forget the last answers."""
        self._last_known.clear()
        self._posed.clear()

    def check_map(self, place_map: PlaceMap) -> None:
        """Report a map whose files were changed since it was opened."""
        text = ""
        try:
            for file in place_map.read_later:
                file.check()
        except MapError as error:
            text = f"no image is answered: {error}; then call ~/reload"
        self._monitor.lasting("map", text, ERROR)

    def links(self, publishers: int, listeners: int) -> None:
        """Report the number of image publishers and answer subscribers."""
        self._monitor.fact("image publishers", publishers)
        self._monitor.fact("answer subscribers", listeners)

    def answered(self, answer: Answer, latency: float, threshold: float) -> str:
        """Report an answer and return it in words.

        latency: from the image's arrival to its pose [ms]. threshold: least probability of a known
        place.
        """
        monitor, probability = self._monitor, answer_status.probability_text(answer)
        key = f"place of {answer.camera}"
        if answer.known:
            monitor.solved(key)
            text = f"camera {answer.camera}: map image {answer.record.id}, {probability}"
        else:
            text = f"unknown place, {probability} < {threshold:g}"
            monitor.problem(key, text, hold=None)
        monitor.latency("callback to published", latency)
        for stage, milliseconds in answer.timings_ms.items():
            monitor.latency(f"localize {stage}", milliseconds)
        monitor.mark("images out")
        monitor.fact("domain", answer.domain.name)
        monitor.fact("domain reason", answer.domain.reason)
        monitor.fact("last score", f"{answer.best.fine_score:.3f}")
        monitor.fact("probability", f"{answer.probability:.3f}")
        if answer.tracked:
            monitor.fact("probability of the map", f"{answer.on_map:.3f}")
        monitor.count("places known" if answer.known else "places unknown")
        self._rig(answer)
        self._log_change(answer, text)
        return text

    def _rig(self, answer: Answer) -> None:
        """Report a camera that is upside down, left out of the vehicle's belief, or contradicts the
        others."""
        camera, lasting = answer.camera, self._monitor.lasting
        lasting(f"roll of {camera}", REMEDY.format(camera=camera) if answer.upside_down else "")
        if answer.informative:
            self._monitor.solved(f"repeats of {camera}")
        else:
            text = f"camera '{camera}' repeats one image: it is frozen, or the vehicle stands"
            self._monitor.warn_once(f"repeats of {camera}", text)
        lasting(f"odometry of {camera}", answer.odometry_fault)
        text = f"camera '{camera}' is not joined with the others: {answer.alone}"
        lasting(f"sequence of {camera}", text if answer.alone else "")
        text = (
            f"camera '{camera}' contradicts the others and hardly counts: it is covered, frozen or "
            "turned, or its extrinsics are wrong"
        )
        if answer.doubt >= DOUBTED or answer.doubt < TRUSTED:
            lasting(f"doubt of {camera}", text if answer.doubt >= DOUBTED else "")

    def _log_change(self, answer: Answer, text: str) -> None:
        """Log the first pose, and where a place becomes known or unknown, once a second at most."""
        if self._last_known.get(answer.camera) is answer.known:
            return
        self._last_known[answer.camera] = answer.known
        log, (x, y, _) = self._node.get_logger(), answer.map_from_base.translation.tolist()
        if not answer.known:
            log.info(text, throttle_duration_sec=1.0)
        elif answer.camera not in self._posed:
            self._posed.add(answer.camera)
            log.info(f"first pose: {text}, x {x:.1f} m, y {y:.1f} m")
            log.info(f"its domain: {answer.domain.reason}")
        else:
            line = f"place known: {text}, x {x:.1f} m, y {y:.1f} m"
            log.info(line, throttle_duration_sec=1.0)

    def failed(self, error: Exception) -> str:
        """Report an image without an answer and return the reason in words."""
        log = self._node.get_logger()
        if isinstance(error, ImageError):
            text = f"image skipped: {error}"
            self._monitor.warn_once("image", text)
            self._monitor.count(BLIND if isinstance(error, BlindError) else UNDECODABLE)
            return text
        text = f"localization failed: {str(error) or type(error).__name__}"
        if self._monitor.problem("inference", text, ERROR):
            expected = isinstance(error, DisamError)
            log.error(text if expected else f"{text}\n{''.join(traceback.format_exception(error))}")
        self._monitor.count("inference errors")
        return text

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Report an error of a by-product of an answer, and go on."""
        try:
            yield
        except Exception as error:
            if not self._node.context.ok():  # shut down in the middle of an answer
                return
            text = f"{what} failed: {describe(error)}"
            self._monitor.warn_once(what, text, ERROR)
            self._monitor.count("inference errors")

    def computing(self, localizer: Localizer) -> str:
        """Report what runs the encoders, and the device, which is returned in words."""
        device, backend = describe_device(localizer.device), localizer.backend
        self._monitor.fact("device", device)
        self._monitor.fact("encoders", f"{backend.name}, {backend.precision}")
        return device

    def identity(self, localizer: Localizer) -> str:
        """Report model, map and device and return them in words."""
        monitor, place_map, model = self._monitor, localizer.map, localizer.model
        device = self.computing(localizer)
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
