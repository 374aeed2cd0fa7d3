# SPDX-License-Identifier: Apache-2.0
"""Incremental map building on a worker thread while the vehicle drives."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image

from disam_ros.camera import Camera
from disam_ros.datasets.bags.bit_depth import BitDepth
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import PosedImage
from disam_ros.device import describe_device, select_device
from disam_ros.domains.choice import DomainChooser
from disam_ros.errors import ConfigError, DisamError, ImageError, MapError
from disam_ros.files.outputs import MAP, require_output
from disam_ros.geometry import Transform
from disam_ros.mapping.builder import MapBuilder
from disam_ros.models.model import load_model
from disam_ros.node_config import MapBuilderNodeConfig
from disam_ros.nodes.conversions import image_from_message
from disam_ros.nodes.image_input import Worker
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, Monitor
from disam_ros.pose_buffer import NANOSECONDS

QUEUE = 16  # posed images that wait for the encoder; the oldest are dropped
IMAGES, REQUESTS = "images", "requests"  # slots of the worker
LEFT_OUT = (
    "images without pose",
    "images dropped",
    "stamps refused",
    "images undecodable",
    "build errors",
)
PROGRESS = (1, 10)  # images in the map that are logged, and each multiple of …
EVERY = 50


class FinishRequest:
    """Asks to complete the map."""


@dataclass(frozen=True)
class PosedMessage:
    """An image message and the vehicle's pose at its stamp."""

    stamp_ns: int
    message: Image | CompressedImage
    map_from_base: Transform
    place: tuple[float, float] | None = None  # latitude and longitude [deg]


class LiveMap:
    """Loads the model; `begin` opens the map, `add` queues images, `finish` completes it.

    Raises DisamError where the model or the output is at fault. After an error of the map itself
    (disk full, half-built map of other settings) or of `finish` it accepts no more images; those
    that were committed stay on disk, to be resumed. place: latitude and
    longitude [deg] of the map's origin, asked for when it is complete.
    """

    def __init__(
        self,
        config: MapBuilderNodeConfig,
        monitor: Monitor,
        logger: RcutilsLogger,
        place: Callable[[], tuple[float, float] | None] = lambda: None,
    ) -> None:
        for name in ("output", "model"):
            if not getattr(config, name):
                raise ConfigError(f"the parameter '{name}' is empty: set it to a directory")
        remedy = "set the parameter output to another directory, or move it away"
        require_output(config.output, MAP, remedy=remedy)
        self._config, self._monitor, self._logger = config, monitor, logger
        self._bit_depth = BitDepth(config.camera, config.bit_depth, logger.info)
        self._device = select_device(config.device)
        self._model = load_model(config.model)
        monitor.fact("device", describe_device(self._device))
        monitor.fact("model", f"{self._model.name} {self._model.identity[:12]}")
        monitor.fact("output", config.output)
        self._domains, self._place = DomainChooser(self._model.domains), place
        self._first_ns = 0  # stamp of the first image in the map
        self._builder: MapBuilder | None = None
        self._base_from_camera = Transform.identity()
        self._end = ""  # why no more images are accepted
        self._complete = False
        self._closing = False
        self._answers: deque[Future] = deque()  # to requests to complete the map
        self._worker: Worker[PosedMessage | FinishRequest] = Worker(self._work, self._failed, QUEUE)

    @property
    def begun(self) -> bool:
        """Whether `begin` was called."""
        return self._builder is not None or bool(self._end)

    @property
    def state(self) -> str:
        """What happens to images."""
        if not self._end:
            return "building"
        return "complete" if self._complete else "not building"

    def begin(self, camera: Camera, map_frame: str) -> int:
        """Open the map, or resume the half-built one; returns the number of images in it."""
        config = self._config
        info = DatasetInfo(
            name="live",
            cameras={config.camera: camera},
            map_frame=map_frame,
            latitude=None if math.isnan(config.latitude) else config.latitude,
            longitude=None if math.isnan(config.longitude) else config.longitude,
            origin="map_builder node",
        )
        source = f"live {config.camera}"
        self._base_from_camera = camera.base_from_camera
        try:
            self._builder = MapBuilder(
                info, self._model, config.output, config.builder, self._device, source, live=True
            )
        except DisamError as error:
            self._break(error)
            return 0
        count = self._builder.count
        if self._builder.complete:
            _, text = self._finish()
            self._logger.warning(f"{text}: a build before was all but complete, and takes no more")
        return count

    def add(self, item: PosedMessage) -> None:
        """Queue an image; it is dropped while the map is being completed."""
        if not self._end and (self._answers or self._worker.offer(IMAGES, item)):
            self._monitor.count("images dropped")

    def finish(self, answer: Future) -> None:
        """Complete the map after what is queued; the answer is (success, message)."""
        self._answers.append(answer)
        self._worker.offer(REQUESTS, FinishRequest())

    def close(self) -> str:
        """Save the images so far, queued ones included; returns a message for the log."""
        self._closing = True
        self._worker.stop(drain=True)
        if self._builder is None:
            return self._end or "no image came: there is no map"
        count = self._builder.count
        with self._builder as builder:
            if not self._end:
                builder.commit()
        if not count:
            return "no image is in the map: there is none"
        return f"{count} images are safe in {self._safe()}"

    def _safe(self) -> str:
        """Where images are before the map is complete, and how to go on."""
        return (
            f"{self._config.output}.part, NOT yet a map: start again with the same parameters to "
            "resume, call ~/finish to complete it"
        )

    def _work(self, item: PosedMessage | FinishRequest) -> None:
        """Encode an image or complete the map. On the worker thread."""
        if isinstance(item, PosedMessage):
            self._encode(item)
            return
        while queued := self._worker.take():
            for image in queued:
                if isinstance(image, PosedMessage):
                    self._encode_or_report(image)
        result = self._finish()
        while self._answers:
            self._answers.popleft().set_result(result)

    def _encode_or_report(self, item: PosedMessage) -> None:
        try:
            self._encode(item)
        except Exception as error:  # as the worker does
            self._failed(error)

    def _encode(self, item: PosedMessage) -> None:
        if self._end or self._builder is None:
            return
        record = ImageRecord(
            id=0,
            stamp_ns=item.stamp_ns,
            camera=self._config.camera,
            domain=self._domain(item),
            source="live",
            map_from_camera=item.map_from_base @ self._base_from_camera,
        )
        kept = self._builder.add(PosedImage(record, lambda: self.decode(item.message)))
        if kept:
            self._monitor.mark("images kept")
            self._monitor.fact("images in map", self._builder.count)
            self._log_progress(self._builder.count, item.stamp_ns)
        if self._closing:  # whoever wants it closed may lose patience
            self._builder.commit()

    def _domain(self, item: PosedMessage) -> str:
        """The domain by the sun at the place of the last fix; empty: the builder chooses it."""
        if item.place is None or self._config.builder.domain:
            return ""
        return self._domains.choose(item.stamp_ns, *item.place).name

    def _log_progress(self, count: int, stamp_ns: int) -> None:
        self._first_ns = self._first_ns or stamp_ns
        if count in PROGRESS or count % EVERY == 0:
            seconds = (stamp_ns - self._first_ns) / NANOSECONDS
            plural = "s" if count > 1 else ""
            self._logger.info(f"{count} image{plural} in the map, {seconds:.0f} s after the first")

    def decode(self, message: Image | CompressedImage) -> NDArray[np.uint8]:
        """Decode an image. Raises ImageError, reported: the image is left out."""
        try:
            return image_from_message(message, self._bit_depth)
        except ImageError as error:
            self._monitor.problem("image", f"an image was left out: {error}")
            self._monitor.count("images undecodable")
            raise

    def _finish(self) -> tuple[bool, str]:
        if self._end:
            return self._complete, self._end
        if self._builder is None:
            return False, "no image with a pose came yet: nothing to complete"
        builder = self._builder
        try:
            place_map = builder.finish(self._place())
        except Exception as error:  # whatever it is, the caller waits for an answer
            text = str(error) or type(error).__name__
            if builder.count:
                text = f"the map cannot be completed: {text}; images are safe in {self._safe()}"
                self._break(MapError(text))
                self._builder = None
                with builder:  # closes it
                    pass
            return False, text
        self._end = f"map complete: {place_map.directory}, {len(place_map)} images"
        if left_out := self._monitor.counted(*LEFT_OUT):
            counts = ", ".join(f"{key}: {number}" for key, number in left_out.items())
            self._end += f"; left out ({counts})"
        self._builder, self._complete = None, True
        return True, self._end

    def _failed(self, error: Exception) -> None:
        if isinstance(error, MapError):
            self._break(error)
            return
        text = f"an image failed: {str(error) or type(error).__name__}"
        self._monitor.warn_once("build", text, ERROR)
        self._monitor.count("build errors")

    def _break(self, error: DisamError) -> None:
        self._end = str(error)
        text = f"no more images are accepted: {error}"
        self._monitor.lasting("map", text, ERROR)
