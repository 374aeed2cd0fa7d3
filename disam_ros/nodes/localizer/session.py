# SPDX-License-Identifier: Apache-2.0
"""All that the localizer node holds while it is configured: model, map, topics, worker thread."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from disam_ros.config import LocalizerNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.extrinsics import Extrinsics
from disam_ros.nodes.localizer import answer_status
from disam_ros.nodes.localizer.area_watch import AreaWatch
from disam_ros.nodes.localizer.camera_checks import ImageCheck, ViewCheck
from disam_ros.nodes.localizer.conditions import Conditions
from disam_ros.nodes.localizer.consumer_check import ConsumerCheck
from disam_ros.nodes.localizer.loaded import Loaded, load
from disam_ros.nodes.localizer.loop_closures import LoopClosures
from disam_ros.nodes.localizer.map_odom import MapOdom
from disam_ros.nodes.localizer.odometry_input import OdometryInput
from disam_ros.nodes.localizer.outputs import Outputs
from disam_ros.nodes.localizer.priors import Priors, map_origin
from disam_ros.nodes.localizer.relocalize import Relocalize
from disam_ros.nodes.localizer.reports import Reports
from disam_ros.nodes.subscriptions import Frame, ImageInput, StampChecker
from disam_ros.nodes.worker import Worker


class Session:
    """Loads model and map, then subscribes and publishes; localizes between `start` and `stop`.

    switch: called with the map directory that the vehicle has driven onto.
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
        self._between = threading.Lock()  # held while an image is answered
        self._loaded = load(node, config)
        localizer, header = self._loaded.localizer, self._loaded.header
        self._worker: Worker[Frame] | None = None
        self._newest = 0
        self._reports = Reports(node, monitor)
        node.get_logger().info(self._reports.identity(localizer))
        self._stamps = StampChecker(node, monitor)
        self._images = ImageCheck(node, monitor)
        self._consumer = ConsumerCheck(node, monitor)
        self._odometry = OdometryInput(node, monitor, config)
        prior = config.localizer.prior
        self._priors = Priors(node, monitor, prior, header, self._odometry.track)
        self._conditions = Conditions(node, monitor, localizer.model, self._priors)
        where = config.base_frame, self._loaded.fixed, config.use_tf
        self._extrinsics = Extrinsics(node, monitor, *where)
        self._outputs = Outputs(node, header.map_frame, config.base_frame, config.publish_markers)
        self._map_odom = MapOdom(node, monitor, config.publish_tf, config.tf_tolerance)
        self._loops = LoopClosures(node, monitor, config.loop_closure, config.base_frame)
        self._inputs = []
        infos = {}
        for camera in config.cameras:
            prefix = f"{camera}/" if len(config.cameras) > 1 else ""
            transport, reliability = config.image_transport, config.reliability
            on_image = functools.partial(self._on_image, camera)
            topic, infos[camera] = f"{prefix}image", f"{prefix}camera_info"
            self._inputs.append(ImageInput(node, topic, transport, reliability, on_image, monitor))
        self._area = AreaWatch(node, monitor, config.areas, lambda: self._config.map, switch)
        self._views = ViewCheck(node, monitor, infos, header.cameras)

    def start(self) -> None:
        """Begin to localize."""
        self._reports.wait_for(self._config.cameras)
        self._worker = Worker(self._work, self._failed)
        self._relocalize.active = True

    def stop(self) -> None:
        """Stop after the image at hand; whoever waits for a relocalization is told."""
        self._relocalize.stop("the localizer was deactivated")
        worker, self._worker = self._worker, None
        self._reports.wait_for(())
        if worker is not None:
            worker.stop()

    def destroy(self) -> None:
        """Give back topics and services."""
        self.stop()
        parts = (self._conditions, self._odometry, self._priors, self._outputs, self._views)
        parts += (self._extrinsics, self._map_odom, self._loops, self._area)
        for part in (*self._inputs, *parts):
            part.destroy()
        self._reports.links(0, 0)

    def check(self, config: LocalizerNodeConfig) -> None:
        """Raises DisamError for settings that do not fit the model or the map."""
        if config.localizer.domain.override:
            override = config.localizer.domain.override
            self._loaded.localizer.choose_domain(None, domain=override)
        if config.localizer.prior.source == "fix":
            map_origin(config.localizer.prior, self._loaded.header)

    def configure(self, config: LocalizerNodeConfig) -> None:
        """Take settings that changed, between two images."""
        with self._between:
            self._config = config
            self._loaded.localizer.config = config.localizer
            self._odometry.configure(config)
            self._priors.adopt(config.localizer.prior, self._loaded.header)

    def look(self) -> None:
        """Tell who is connected, and cameras from which no image came for long."""
        self._reports.check_age(self._config.cameras, self._config.stale_after)
        publishers = min(camera.publisher_count() for camera in self._inputs)
        self._reports.links(publishers, self._outputs.listener_count())

    def adopt(self, loaded: Loaded) -> str:
        """Go on with another map or model. Raises DisamError, having changed nothing."""
        with self._between:
            loaded.localizer.config = self._config.localizer
            self._priors.adopt(self._config.localizer.prior, loaded.header)
            self._loaded = loaded
            self._conditions.adopt(loaded.localizer.model)
            self._extrinsics.fixed = loaded.fixed
            self._outputs.map_frame = loaded.header.map_frame
            self._views.mapped = loaded.header.cameras
            self._loops.begin_anew()
            return self._reports.identity(loaded.localizer)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        received = time.perf_counter()
        worker = self._worker
        if worker is None:
            return
        self._reports.arrived(camera)
        stamp_ns = self._stamps.usable(camera, message.header)
        self._newest += 1
        self._relocalize.arrived(self._newest)
        if worker.offer(camera, Frame(camera, message, self._newest, stamp_ns, received)):
            self._monitor.count("images dropped")

    def _work(self, frame: Frame) -> None:
        """Answer an image. On the worker thread."""
        try:
            with self._between:
                self._localize(frame)
        except Exception as error:
            status = answer_status.refused(frame.camera, error)
            self._outputs.answer(status, frame.message.header)
            raise

    def _localize(self, frame: Frame) -> None:
        """Convert, check, localize, publish."""
        image, header = conversions.image_from_message(frame.message), frame.message.header
        localizer, stamp_ns = self._loaded.localizer, frame.stamp_ns
        reading = self._odometry.at(stamp_ns)
        evidence = self._images.evidence(frame.camera, image, stamp_ns, reading)
        told, prior = self._conditions, self._priors.at(stamp_ns)
        place = {"latitude": told.latitude, "longitude": told.longitude}
        conditions = {"weather": told.weather, "domain": told.domain, **place}
        found = localizer.localize(image, stamp_ns, frame.camera, **conditions, near=prior)
        base_from_camera = self._extrinsics.base_from_camera(frame.camera, header.frame_id)
        camera = self._views.camera(frame.camera, base_from_camera)
        if localizer.config.sequence.enabled:
            motion = (reading.odom_from_base, reading.drive) if reading else (None, 0)
            found = self._loaded.tracker.follow(
                found, stamp_ns, *motion, believe=evidence, image=image, camera=camera
            )
        poses = self._outputs.publish(found, header, base_from_camera)
        if poses is not None:
            frames = self._outputs.map_frame, self._odometry.frame_id
            self._map_odom.publish(poses.map_from_base, reading, stamp_ns, frames)
            self._consumer.look(self._config, poses.with_covariance, poses.global_pose)
            if self._relocalize.waits_for(frame.number):
                self._outputs.start_from(poses)
        self._priors.answered(stamp_ns, found, prior, base_from_camera)
        latency = 1e3 * (time.perf_counter() - frame.received)
        self._outputs.answer(answer_status.localized(found, latency, evidence), header)
        text = self._reports.answered(found, latency, self._least())
        self._relocalize.answer(frame.number, found.known, text)
        self._loops.look(localizer, found, stamp_ns, reading, camera, header, image)
        if localizer.has_activation_maps:
            heat = functools.partial(localizer.activation_map, found)
            self._outputs.publish_activation(image, heat, header)

    def _least(self) -> float:
        """What the confidence of an answer is compared with."""
        config = self._config.localizer
        return (
            config.sequence.least_probability if config.sequence.enabled else config.score_threshold
        )

    def _failed(self, error: Exception) -> None:
        if self._node.context.ok():  # otherwise: shut down in the middle of an image
            self._relocalize.hindered(self._reports.failed(error))
