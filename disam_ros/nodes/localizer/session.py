# SPDX-License-Identifier: Apache-2.0
"""All that the localizer node holds while it is configured: pipeline, topics, worker thread."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from disam_ros.datasets.bags.bit_depth import BitDepth
from disam_ros.errors import ConfigError
from disam_ros.localization.pipeline import Localized, Shot
from disam_ros.localization.query import KNOWN, Frame
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.image_input import ImageInput, Worker
from disam_ros.nodes.localizer.cameras import Cameras
from disam_ros.nodes.localizer.conditions import Conditions
from disam_ros.nodes.localizer.consumer import LOST, Consumer
from disam_ros.nodes.localizer.fix_watch import AreaWatch, FixCheck
from disam_ros.nodes.localizer.loaded import Loaded, load, map_origin
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.localizer.priors import OdometryInput, Priors
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.localizer.publishers.loop_closures import LoopClosures
from disam_ros.nodes.localizer.publishers.map_odom import MapOdom
from disam_ros.nodes.localizer.publishers.map_poses import MapPoses
from disam_ros.nodes.localizer.publishers.match_image import Match, MatchImages
from disam_ros.nodes.localizer.publishers.outputs import ActivationMaps, Outputs
from disam_ros.nodes.localizer.publishers.summary import INACTIVE, WAITING, Summary
from disam_ros.nodes.localizer.relocalize import Relocalize
from disam_ros.nodes.localizer.reports import Reports
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor


@dataclass(frozen=True, eq=False)
class Arrival:
    """An image message that has arrived."""

    camera: str
    message: Image | CompressedImage
    stamp_ns: int | None  # None: unusable
    number: int  # counts all images of the session
    received: float  # time.perf_counter [s]


class Session:
    """Loads model and map, then subscribes and publishes; localizes between `start` and `stop`.

    switch: called with the directory of the map that the vehicle has driven onto.
    Raises DisamError where the configuration, the model or the map is at fault.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: LocalizerNodeConfig,
        monitor: Monitor,
        relocalize: Relocalize,
        switch: Callable[[str], None],
    ) -> None:
        self._node, self._config, self._monitor = node, config, monitor
        self._relocalize = relocalize
        self._between = threading.Lock()  # held while an image is processed
        self._loaded = loaded = load(node, config)
        self._worker: Worker[Arrival] | None = None
        self._newest = 0
        self._reports = Reports(node, monitor)
        node.get_logger().info(self._reports.identity(loaded.localizer))
        self._odometry = OdometryInput(node, monitor)
        self._priors = Priors(node, monitor, self._odometry.track)
        area = AreaWatch(node, monitor, config.areas, lambda: self._config.map, switch)
        fixes = FixCheck(node, monitor)
        listeners = [self._priors.on_fix, area.on_fix, fixes.on_fix]
        self._conditions = Conditions(node, monitor, loaded.localizer.model, listeners)
        self._outputs = Outputs(node, monitor, config.base_frame)
        self._summary = Summary(node, monitor, config.base_frame)
        self._match_images = MatchImages(node, monitor, self._reports.guard)
        self._map_poses = MapPoses(node, monitor)
        self._map_odom = MapOdom(node, monitor, config.publish_tf, config.tf_tolerance)
        prefixes = {name: f"{name}/" if len(loaded.cameras) > 1 else "" for name in loaded.cameras}
        self._cameras = Cameras(node, monitor, config, prefixes, loaded)
        tf = self._cameras.extrinsics.tf
        self._consumer = Consumer(node, monitor, config, self._odometry.track, tf)
        report = node.get_logger().info
        self._bit_depths = {name: BitDepth(name, config.bit_depth, report) for name in prefixes}
        self._parts: list[Part] = [
            self._priors,
            self._odometry,
            fixes,
            self._conditions,
            self._outputs,
            self._cameras,
            self._consumer,
            self._summary,
            self._match_images,
            self._map_poses,
            self._map_odom,
            LoopClosures(node, monitor, config.loop_closure, config.base_frame),
            ActivationMaps(node, monitor),
        ]
        self._inputs = {
            name: ImageInput(
                node,
                name,
                f"{prefix}image",
                config.image_transport,
                functools.partial(self._on_image, name),
                monitor,
                config.stamps,
            )
            for name, prefix in prefixes.items()
        }
        self._take(loaded, config)

    def _take(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes a map and a model or settings that changed, between two images."""
        with self._between:
            for part in self._parts:
                part.configure(loaded, config)
            loaded.pipeline.config = config.localizer
            self._loaded, self._config = loaded, config

    def start(self) -> None:
        """Begin to localize."""
        self._reports.restart()
        self._map_poses.publish(self._loaded.localizer.map)
        self._match_images.start()
        self._worker = Worker(self._work, self._failed)
        self._relocalize.start(lambda: self._newest)
        for image_input in self._inputs.values():
            image_input.listen()
        self._summary.state(WAITING)
        topics = ", ".join(camera.describe() for camera in self._inputs.values())
        self._node.get_logger().info(f"active, waiting for images on {topics}")

    def stop(self) -> None:
        """Stop after the current image; pending relocalizations fail."""
        self._stop_worker()
        self._summary.state(INACTIVE)

    def _stop_worker(self) -> None:
        self._relocalize.stop("the localizer was deactivated")
        for image_input in self._inputs.values():
            image_input.pause()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
        self._match_images.stop()

    def destroy(self) -> None:
        """Gives back topics and services."""
        self._stop_worker()
        for image_input in self._inputs.values():
            image_input.destroy()
        for part in self._parts:
            part.destroy()
        self._reports.links(0, 0)

    def check(self, config: LocalizerNodeConfig) -> None:
        """Raises DisamError for settings that do not fit the model or the map."""
        self._loaded.localizer.check(config.localizer)
        map_origin(config.localizer.prior, self._loaded.header)

    def configure(self, config: LocalizerNodeConfig) -> None:
        """Takes settings that changed."""
        self._take(self._loaded, config)

    def update(self) -> None:
        """Report connections, cameras without images for long, and a map that was changed."""
        self._reports.check_map(self._loaded.localizer.map)
        self._reports.computing(self._loaded.localizer)
        if all([camera.is_silent(self._config.stale_after) for camera in self._inputs.values()]):
            self._summary.state(WAITING)
        publishers = min(camera.publisher_count() for camera in self._inputs.values())
        self._reports.links(publishers, self._outputs.listener_count())

    def adopt(self, loaded: Loaded) -> str:
        """Go on with another map or model. Raises DisamError, having changed nothing."""
        if set(loaded.cameras) != set(self._inputs):
            raise ConfigError(
                f"the map has camera {', '.join(loaded.cameras)}, this node listens to "
                f"{', '.join(self._inputs)}: clean it up and configure it again"
            )
        self._take(loaded, self._config)
        if self._worker is not None:
            self._map_poses.publish(loaded.localizer.map)
        return self._reports.identity(loaded.localizer)

    def _on_image(
        self, camera: str, message: Image | CompressedImage, stamp_ns: int | None
    ) -> None:
        received = time.perf_counter()
        self._newest += 1
        arrival = Arrival(camera, message, stamp_ns, self._newest, received)
        if self._worker is not None and self._worker.offer(camera, arrival):
            self._monitor.count("images dropped")

    def _work(self, arrival: Arrival) -> None:
        """Answer an image and what waits of other cameras. On the worker thread."""
        worker = self._worker
        shots: dict[Arrival, Shot] = {}
        with self._between:
            for image in (arrival, *(worker.take() if worker else ())):
                with self._answering(image):
                    shots[image] = self._shot(image)
            try:
                results = self._loaded.pipeline.process(list(shots.values()))
            except Exception as error:
                for image in shots:
                    self._refuse(image, error)
                return
            for image, localized in zip(shots, results, strict=True):
                with self._answering(image):
                    self._publish(image, localized)

    def _failed(self, error: Exception) -> None:
        """Report a fault of `_work` itself."""
        self._reports.failed(error)

    @contextmanager
    def _answering(self, arrival: Arrival) -> Iterator[None]:
        """Answer an image whatever happens to it: with the error that is raised."""
        try:
            yield
        except Exception as error:
            self._refuse(arrival, error)

    def _refuse(self, arrival: Arrival, error: Exception) -> None:
        """Answer an image with the reason why it has no pose."""
        if not self._node.context.ok():  # shut down in the middle of an image
            return
        self._relocalize.hindered(self._reports.failed(error))
        status = answer_status.refused(arrival.camera, error)
        self._summary.state(answer_status.outcome(status))
        self._outputs.answer(status, arrival.message.header)

    def _shot(self, arrival: Arrival) -> Shot:
        """Collects what is known at an image's stamp. Raises MapError where the map's files were
        changed."""
        for file in self._loaded.localizer.map.read_later:
            file.check()
        frame = self._frame(arrival)
        return Shot(frame, self._odometry.at(frame.stamp_ns), self._priors.at(frame.stamp_ns))

    def _frame(self, arrival: Arrival) -> Frame:
        frame_id, conditions = conversions.frame_of(arrival.message.header), self._conditions
        bit_depth = self._bit_depths[arrival.camera]
        image = conversions.image_from_message(arrival.message, bit_depth)
        return Frame(
            image=image,
            camera=arrival.camera,
            stamp_ns=arrival.stamp_ns,
            lens=self._cameras.camera(arrival.camera, frame_id, image),
            weather=conditions.weather,
            domain=conditions.domain,
            latitude=conditions.latitude,
            longitude=conditions.longitude,
        )

    def _publish(self, arrival: Arrival, localized: Localized) -> None:
        """Publishes poses, then what the parts make of the answer; ~/answer is the last message.

        A part may fail, but an image has one answer. Raises the error that took the place of the
        answer.
        """
        localizer, header = self._loaded.localizer, arrival.message.header
        answer, query = localized.answer, localized.query
        stamp_ns, odometry = localized.shot.frame.stamp_ns, localized.shot.odometry
        pose = self._outputs.publish(answer, header)
        if pose is not None:
            with self._reports.guard("TF map → odom"):
                frames = self._outputs.map_frame, self._odometry.frame_id
                self._map_odom.publish(answer.map_from_base, odometry, stamp_ns, frames)
        self._start_consumer(arrival, localized, pose)
        latency = 1e3 * (time.perf_counter() - arrival.received)
        for part in self._parts:
            with self._reports.guard(part.title):
                part.answered(localized, header)
        text = self._reports.answered(answer, latency, self._config.localizer.min_probability)
        self._relocalize.answer(arrival.number, answer.known, text)
        status = answer_status.localized(answer, latency)
        outcome = answer_status.outcome(status)
        self._summary.state(LOST if outcome == KNOWN and self._consumer.lost else outcome)
        self._outputs.answer(status, header)
        if query is not None:
            with self._reports.guard("the match image"):
                self._match_images.offer(Match(localizer, query, answer, header))

    def _start_consumer(
        self, arrival: Arrival, localized: Localized, pose: PoseWithCovarianceStamped | None
    ) -> None:
        """Publish an initial pose where a request asks for it, or the consumer needs one."""
        if pose is not None and self._relocalize.waits_for(arrival.number):
            self._consumer.start(pose, localized.shot.frame.stamp_ns)
            return
        with self._reports.guard("the supervision of the consumer"):
            self._consumer.supervise(localized, pose, self._config.localizer)
