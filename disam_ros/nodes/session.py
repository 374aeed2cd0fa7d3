# SPDX-License-Identifier: Apache-2.0
"""All that the localizer node holds while it is configured: model, map, topics, worker thread."""

from __future__ import annotations

import functools
import math
import time
import traceback

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from disam_ros.config import LocalizerNodeConfig
from disam_ros.device import describe_device
from disam_ros.domain import parse_weather
from disam_ros.errors import ConfigError, ImageError
from disam_ros.localization import Localization
from disam_ros.localizer import Localizer
from disam_ros.nodes import answer_status, conversions
from disam_ros.nodes.conditions import Conditions
from disam_ros.nodes.diagnostics import ERROR, Monitor
from disam_ros.nodes.extrinsics import Extrinsics, fixed_extrinsics
from disam_ros.nodes.images import Frame, ImageInput, StampChecker, sensor_qos, subscribe
from disam_ros.nodes.outputs import Outputs
from disam_ros.nodes.priors import Priors
from disam_ros.nodes.relocalize import Relocalize
from disam_ros.nodes.worker import Worker
from disam_ros.odometry import OdometryTrack
from disam_ros.sequence import Tracker

NS = 1_000_000_000
VIEW_TOLERANCE = 5.0  # degrees that the field of view may differ from the mapping camera's
NO_ACTIVATION = "none: images are described as a whole"
COUNTERS = ("images received", "images dropped", "images undecodable", "stamps refused")
COUNTERS += ("places known", "places unknown", "inference errors")


class Session:
    """Loads model and map, then subscribes and publishes; localizes between `start` and `stop`.

    Raises DisamError where the configuration, the model or the map is at fault.
    """

    def __init__(self, node: LifecycleNode, config: LocalizerNodeConfig, monitor: Monitor) -> None:
        self._node, self._config, self._monitor = node, config, monitor
        self.localizer = open_localizer(config)
        header = self.localizer.map.header
        fixed = fixed_extrinsics(node, config, header.cameras)
        self._odometry = OdometryTrack(round(NS * config.localizer.prior.max_age))
        self._priors = Priors(node, monitor, config.localizer.prior, header, self._odometry)
        sequence = config.localizer.sequence.enabled
        self._tracker = Tracker(self.localizer) if sequence else None
        self._worker: Worker[Frame] | None = None
        self._newest = 0
        self._last_image: dict[str, float] = {}  # monotonic seconds by camera
        self._stamps = StampChecker(node, monitor)
        self._tell_identity()
        self._extrinsics = Extrinsics(node, monitor, config.base_frame, fixed, config.use_tf)
        self._outputs = Outputs(node, header.map_frame, config.publish_markers)
        model = self.localizer.model
        self._conditions = Conditions(node, monitor, model, self._priors, self._odometry)
        self._relocalize = Relocalize(node, config.relocalize_timeout)
        self._inputs = []
        self._infos = []
        for camera in config.cameras:
            prefix = f"{camera}/" if len(config.cameras) > 1 else ""
            transport, reliability = config.image_transport, config.reliability
            on_image = functools.partial(self._on_image, camera)
            on_info = functools.partial(self._on_camera_info, camera)
            image, info = f"{prefix}image", f"{prefix}camera_info"
            self._inputs.append(ImageInput(node, image, transport, reliability, on_image, monitor))
            self._infos.append(subscribe(node, CameraInfo, info, on_info, monitor, sensor_qos()))

    def start(self) -> None:
        """Begin to localize."""
        self._last_image = dict.fromkeys(self._config.cameras, time.monotonic())
        self._worker = Worker(self._work, self._failed)
        self._relocalize.active = True

    def stop(self) -> None:
        """Stop after the image at hand; whoever waits for a relocalization is told."""
        self._relocalize.stop("the localizer was deactivated")
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def destroy(self) -> None:
        """Give back topics and services."""
        self.stop()
        for subscription in self._infos:
            self._node.destroy_subscription(subscription)
        for part in (
            *self._inputs,
            self._conditions,
            self._priors,
            self._outputs,
            self._relocalize,
            self._extrinsics,
        ):
            part.destroy()
        self._tell_links(0, 0)

    def check_links(self) -> None:
        """Tell how many publishers of images and listeners to the answers are connected."""
        publishers = min(camera.publisher_count() for camera in self._inputs)
        self._tell_links(publishers, self._outputs.listener_count())

    def check_age(self) -> None:
        """Tell cameras from which no image came for long."""
        limit = self._config.stale_after
        for camera, last in self._last_image.items():
            age = time.monotonic() - last
            if self._worker is not None and age > limit:
                text = f"no image of camera '{camera}' for more than {limit:g} s: check its topic"
                self._monitor.problem(f"age of {camera}", text, hold=None)
            else:
                self._monitor.solved(f"age of {camera}")

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        received = time.perf_counter()
        worker = self._worker
        if worker is None:
            return
        self._monitor.mark("images in")
        self._monitor.count("images received")
        self._last_image[camera] = time.monotonic()
        stamp_ns = self._stamps.usable(camera, message.header)
        self._newest += 1
        self._relocalize.arrived(self._newest)
        if worker.offer(camera, Frame(camera, message, self._newest, stamp_ns, received)):
            self._monitor.count("images dropped")

    def _on_camera_info(self, camera: str, info: CameraInfo) -> None:
        mapped = self.localizer.map.header.cameras.get(camera)
        if mapped is None or min(mapped.fx, mapped.width, info.k[0], info.width) <= 0:
            return
        now, then = _view(info.width, info.k[0]), _view(mapped.width, mapped.fx)
        key = f"view of {camera}"
        if abs(now - then) <= VIEW_TOLERANCE:
            self._monitor.solved(key)
            return
        text = f"camera '{camera}' sees {now:.0f}° across, the map's saw {then:.0f}°: scores suffer"
        if self._monitor.problem(key, text, hold=None):
            self._node.get_logger().warning(text)

    def _work(self, frame: Frame) -> None:
        """Answer an image. On the worker thread."""
        try:
            self._localize(frame)
        except Exception as error:
            status = answer_status.refused(frame.camera, error)
            self._outputs.answer(status, frame.message.header)
            raise

    def _localize(self, frame: Frame) -> None:
        """Convert, localize, publish."""
        image = conversions.image_from_message(frame.message)
        told, prior = self._conditions, self._priors.at(frame.stamp_ns)
        found = self.localizer.localize(
            image,
            frame.stamp_ns,
            frame.camera,
            weather=told.weather,
            latitude=told.latitude,
            longitude=told.longitude,
            domain=told.domain,
            near=prior,
        )
        if self._tracker is not None:
            at = self._odometry.at(frame.stamp_ns) if frame.stamp_ns is not None else None
            found = self._tracker.follow(found, frame.stamp_ns, at and at[0])
        header = frame.message.header
        base_from_camera = self._extrinsics.base_from_camera(frame.camera, header.frame_id)
        self._outputs.publish(found, header, base_from_camera)
        self._priors.answered(frame.stamp_ns, found, prior, base_from_camera)
        latency = 1e3 * (time.perf_counter() - frame.received)
        self._outputs.answer(answer_status.localized(found, latency), header)
        self._report(frame, found, latency)
        if self.localizer.has_activation_maps:
            heat = functools.partial(self.localizer.activation_map, found)
            self._outputs.publish_activation(image, heat, header)

    def _report(self, frame: Frame, found: Localization, latency: float) -> None:
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
        text = f"camera {found.camera}: map image {found.record.id}, {sure}"
        key = f"place of {found.camera}"
        if found.known:
            monitor.count("places known")
            monitor.solved(key)
        else:
            monitor.count("places unknown")
            text = f"unknown place, {sure} < {self._threshold():g}"
            monitor.problem(key, text, hold=None)
        self._relocalize.answer(frame.number, found.known, text)

    def _threshold(self) -> float:
        config = self.localizer.config
        following = self._tracker is not None
        return config.sequence.least_probability if following else config.score_threshold

    def _failed(self, error: Exception) -> None:
        if not self._node.context.ok():  # shut down in the middle of an image
            return
        log = self._node.get_logger()
        if isinstance(error, ImageError):
            self._monitor.count("images undecodable")
            text = f"image skipped: {error}"
            if self._monitor.problem("image", text):
                log.warning(text)
        else:
            self._monitor.count("inference errors")
            text = f"localization failed: {error or type(error).__name__}"
            if self._monitor.problem("inference", text, ERROR):
                log.error(f"{text}\n{''.join(traceback.format_exception(error))}")
        self._relocalize.hindered(text)

    def _tell_links(self, publishers: int, listeners: int) -> None:
        self._monitor.fact("image publishers", publishers)
        self._monitor.fact("answer subscribers", listeners)

    def _tell_identity(self) -> None:
        localizer, monitor = self.localizer, self._monitor
        place_map, model = localizer.map, localizer.model
        device = describe_device(localizer.device)
        monitor.fact("device", device)
        monitor.fact("model", f"{model.name} {model.identity[:12]}")
        monitor.fact("map", f"{place_map.directory}, {len(place_map)} images")
        monitor.fact("map frame", place_map.header.map_frame)
        monitor.start_counts(*COUNTERS)
        if not localizer.has_activation_maps:
            monitor.fact("activation map", NO_ACTIVATION)
            self._node.get_logger().info(f"~/activation_map: {NO_ACTIVATION}")
        self._node.get_logger().info(
            f"map {place_map.directory} ({len(place_map)} images, cameras "
            f"{', '.join(place_map.cameras())}), model {model.name} on {device}"
        )


def open_localizer(config: LocalizerNodeConfig) -> Localizer:
    """Load what the parameters name. Raises DisamError."""
    for name in ("map", "model"):
        if not getattr(config, name):
            raise ConfigError(f"the parameter '{name}' is empty: set it to a {name} directory")
    cameras = config.cameras
    if not all(cameras) or len(set(cameras)) != len(cameras) or not cameras:
        raise ConfigError(f"'cameras' expects different names, got {cameras}")
    parse_weather(config.localizer.domain.weather)
    localizer = Localizer.open(config.map, config.model, config.localizer)
    for camera in cameras:
        localizer.map.rows_of(camera)  # raises MapError for a camera the map does not have
    return localizer


def _view(width: int, focal: float) -> float:
    """Horizontal field of view in degrees."""
    return 2 * math.degrees(math.atan(width / (2 * focal)))
