# SPDX-License-Identifier: Apache-2.0
"""Node that builds a map while the vehicle drives, from images and interpolated poses."""

from __future__ import annotations

import math
import time
from collections import deque

from geometry_msgs.msg import Pose, PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from disam_ros.camera import Camera, camera_of_info, info_doubts
from disam_ros.errors import ConfigError, DisamError, GeometryError, ImageError
from disam_ros.geometry import Transform
from disam_ros.image import limit_megapixels
from disam_ros.node_config import MapBuilderNodeConfig
from disam_ros.nodes import conversions
from disam_ros.nodes.image_input import ImageInput
from disam_ros.nodes.map_builder.fix_input import FixInput
from disam_ros.nodes.map_builder.live_map import LiveMap, PosedMessage
from disam_ros.nodes.rclpy_extra import parameters, process
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, DiagnosticsPublisher, Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import Subscriptions, sensor_qos
from disam_ros.nodes.rclpy_extra.waiting import steady_timer, waking_future
from disam_ros.nodes.tf import Tf, from_parameter, mount_from_tf, open_tf, tf_of_cameras
from disam_ros.plausibility import LONGEST_NS, Gate
from disam_ros.pose_buffer import PoseBuffer

NAME = "map_builder"
WAITING = 16  # images that wait for a later pose; the oldest are dropped first
KEPT_POSES = 500
POSE_DEPTH = 50
SILENCE = 5.0  # time without an image that is reported [s]
TF_PERIOD = 0.02  # of looking for a newer pose in TF [s]
COUNTERS = (
    "images received",
    "images without pose",
    "images dropped",
    "stamps refused",
    "poses received",
    "poses refused",
    "images undecodable",
    "build errors",
)


class MapBuilderNode(Node):
    """The map builder as a node with the parameters of MapBuilderNodeConfig.

    Raises DisamError where they, the model or the output are at fault.
    """

    def __init__(self) -> None:
        super().__init__(NAME)
        config = self._config = parameters.declare(self, MapBuilderNodeConfig)
        limit_megapixels(config.max_megapixels)
        title = f"{self.get_fully_qualified_name()[1:]}: map building"
        monitor = self._monitor = Monitor(title, self.get_logger())
        monitor.start_counts(*COUNTERS)
        mounts = from_parameter(config.base_from_camera, [config.camera])
        self._topics = Subscriptions(self, monitor)
        self._gate = Gate()
        self._track = PoseBuffer(round(config.max_pose_gap * 1e9), KEPT_POSES)
        self._map = LiveMap(config, monitor, self.get_logger(), self._place)
        unplaced = math.isnan(config.latitude) or math.isnan(config.longitude)
        self._fixes = None
        if unplaced:
            self._fixes = FixInput(self, monitor, self._topics, self._track, config.fix_deviation)
        self._waiting: deque[tuple[int, Image | CompressedImage]] = deque(maxlen=WAITING)
        if config.identity_extrinsics:
            if mounts is not None:
                raise ConfigError("'identity_extrinsics' and 'base_from_camera' are set: take one")
            mounts = {config.camera: Transform.identity()}
        use_tf = config.use_tf and mounts is None
        self._mounts = mounts or {}
        self._tf = tf_of_cameras(self, use_tf, self._mounts)
        self._info: CameraInfo | None = None
        self._map_frame = ""
        self._last_tf = 0  # stamp of the last pose from TF [ns]
        self._first_image: float | None = None  # on the monotonic clock [s]
        self._diagnostics = DiagnosticsPublisher(self, monitor, self._update)
        self._subscribe()
        self.create_service(
            Trigger, "~/finish", self._on_finish, callback_group=ReentrantCallbackGroup()
        )
        source = f"images on {self._images.describe()}"
        self.get_logger().info(
            f"building {config.output} from {source}; call ~/finish to complete it"
        )

    def close(self) -> None:
        """Save what was built."""
        try:
            self.get_logger().info(self._map.close())
        except DisamError as error:
            self.get_logger().error(str(error))

    def report_fault(self, text: str) -> None:
        """Report an error that a callback did not handle."""
        self._monitor.warn_once("callback", text, ERROR)

    def _update(self) -> str:
        """Reports why no images come; returns the state."""
        self._images.is_silent(SILENCE)
        return self._map.state

    def _subscribe(self) -> None:
        config, monitor = self._config, self._monitor
        transport, camera = config.image_transport, config.camera
        self._images = ImageInput(
            self, camera, "image", transport, self._on_image, monitor, config.stamps
        )
        self._images.listen()
        add = self._topics.add
        add(CameraInfo, "camera_info", self._on_camera_info, sensor_qos())
        qos = sensor_qos(depth=POSE_DEPTH)
        if config.pose_source == "odom":
            add(Odometry, "odom", self._on_posed, qos)
        elif config.pose_source == "pose_with_covariance":
            add(PoseWithCovarianceStamped, "pose", self._on_posed, qos)
        elif config.pose_source == "pose":
            add(PoseStamped, "pose", self._on_pose, qos)
        else:
            self._follow_tf(self._tf or open_tf(self))

    def _follow_tf(self, tf: Tf | None) -> None:
        """Take the newest pose of TF as if it came on a topic."""
        if tf is None:
            raise ConfigError(
                "pose_source is 'tf', but tf2_ros is not installed: install it, or take a topic"
            )
        steady_timer(self, TF_PERIOD, lambda: self._look_up(tf))

    def _look_up(self, tf: Tf) -> None:
        config = self._config
        try:
            pose, stamp_ns = tf.look_up(config.map_frame, config.base_frame)
        except (LookupError, GeometryError) as error:
            text = f"no TF {config.map_frame} ← {config.base_frame} yet: {error}"
            self._monitor.warn_once("tf", text)
            return
        self._monitor.solved("tf")
        if stamp_ns == self._last_tf:
            return
        self._last_tf = stamp_ns
        header = Header(frame_id=config.map_frame)
        header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        self._add_pose(header, conversions.transform_to_pose(pose))

    def _on_camera_info(self, info: CameraInfo) -> None:
        if self._info is not None:
            return
        try:
            conversions.check_camera_info(info, self._images.rectified)
        except GeometryError as error:
            text = f"{self.resolve_topic_name('camera_info')} is not used: {error}"
            self._monitor.lasting("camera_info", text)
            return
        self._monitor.solved("camera_info")
        self._info = info

    def _on_pose(self, message: PoseStamped) -> None:
        self._add_pose(message.header, message.pose)

    def _on_posed(self, message: Odometry | PoseWithCovarianceStamped) -> None:
        self._add_pose(message.header, message.pose.pose)

    def _add_pose(self, header: Header, pose: Pose) -> None:
        self._monitor.count("poses received")
        frame = conversions.frame_of(header)
        self._map_frame = self._map_frame or frame
        try:
            if not frame or frame != self._map_frame:
                raise GeometryError(
                    f"its frame is '{frame}', expected '{self._map_frame or 'map'}'"
                )
            map_from_base = conversions.pose_to_transform(pose)
        except GeometryError as error:
            self._monitor.warn_once("pose", f"a pose was refused: {error}")
            self._monitor.count("poses refused")
            return
        self._follow(conversions.stamp_to_ns(header), map_from_base)
        if self._fixes is not None:
            self._fixes.add_posed()
        self._add_posed_images()

    def _follow(self, stamp_ns: int, map_from_base: Transform) -> None:
        """Append what is plausible to the track."""
        before = self._gate.left_out
        steps, restarted = self._gate.passes(stamp_ns, map_from_base)
        if left_out := self._gate.left_out - before:
            text = (
                "a pose was refused: its stamp is not newer than the last one's, or no vehicle "
                "gets from there to its place; check the clock and the axes of its source"
            )
            self._monitor.warn_once("pose", text)
            self._monitor.count("poses refused", left_out)
        if restarted:
            text = "poses start over: their stamps or places leapt, and go on from there"
            self._monitor.warn_once("pose", text)
            self._track.clear()
        for step in steps:
            self._track.add(step.stamp_ns, step.pose)

    def _place(self) -> tuple[float, float] | None:
        """Latitude and longitude [deg] of the map's origin; None: set by parameter, or unknown."""
        return self._fixes.place() if self._fixes is not None else None

    def _on_image(self, message: Image | CompressedImage, stamp_ns: int | None) -> None:
        if stamp_ns is None:
            return
        self._first_image = self._first_image or time.monotonic()
        full = len(self._waiting) == WAITING
        self._waiting.append((stamp_ns, message))
        if full:
            newest = self._track.newest
            missing = "poses with later stamps"
            if newest is not None and newest.stamp_ns >= self._waiting[0][0]:
                missing = "extrinsics" if self._info is not None else "a camera_info"
            text = f"images wait in vain for {missing}"
            self._monitor.warn_once("poses", text)
            self._monitor.count("images without pose")
        self._add_posed_images()

    def _add_posed_images(self) -> None:
        """Add the waiting images whose pose can be interpolated to the map."""
        waited = time.monotonic() - (self._first_image or time.monotonic())
        late = waited >= self._config.camera_info_timeout
        if self._info is None and not late:
            return
        newest = self._track.newest
        if newest is None:
            return
        self._leave_out_early(newest.stamp_ns)
        for waiting in [item for item in self._waiting if item[0] <= newest.stamp_ns]:
            stamp_ns, message = waiting
            map_from_base = self._track.at(stamp_ns)
            posed = map_from_base is not None
            try:
                if posed and not self._map.begun and not self._begin(message, late):
                    return
            except ImageError:  # reported; the next image tells the size
                self._waiting.remove(waiting)
                continue
            self._waiting.remove(waiting)
            if map_from_base is None:
                self._monitor.count("images without pose")
                continue
            place = self._fixes.newest if self._fixes is not None else None
            self._map.add(PosedMessage(stamp_ns, message, map_from_base, place))

    def _leave_out_early(self, newest_ns: int) -> None:
        """Leave out images that are stamped long after the newest pose: their clock is another."""
        for waiting in [item for item in self._waiting if item[0] - newest_ns > LONGEST_NS]:
            self._waiting.remove(waiting)
            seconds = (waiting[0] - newest_ns) / 1e9
            text = f"an image is stamped {seconds:.0f} s after the newest pose: check both clocks"
            self._monitor.warn_once("image clock", text)
            self._monitor.count("images without pose")

    def _begin(self, message: Image | CompressedImage, late: bool) -> bool:
        """Open the map for images of this size; False while the extrinsics are unknown.

        late: report that. Raises ImageError for an image that cannot be decoded.
        """
        name, frame_id = self._config.camera, conversions.frame_of(message.header)
        base_from_camera = self._mounts.get(name)
        if self._tf is not None and frame_id:
            frames, instead = (self._config.base_frame, frame_id), "waiting for it"
            base_from_camera = mount_from_tf(self._tf, self, self._monitor, frames, instead)
        if base_from_camera is None:
            if late:
                text = (
                    f"nothing is built: no TF {self._config.base_frame} ← '{frame_id}', the frame "
                    "of the images; publish it, or set base_from_camera and start again"
                )
                self._monitor.lasting("extrinsics", text, ERROR)
            return False
        self._monitor.solved("extrinsics")
        height, width = self._map.decode(message).shape[:2]
        camera = self._camera((width, height), base_from_camera)
        count = self._map.begin(camera, self._map_frame)
        if count:
            self.get_logger().info(f"resuming an interrupted build of {count} images")
        return True

    def _camera(self, size: tuple[int, int], base_from_camera: Transform) -> Camera:
        """The camera of images of a size (width, height) by its camera_info; without intrinsics
        where that has none."""
        rectified = self._images.rectified
        fault = "no camera_info came"
        if self._info is not None:
            topic = self.resolve_topic_name("camera_info")
            try:
                camera = camera_of_info(
                    self._info, base_from_camera, rectified=rectified, size=size
                )
                for doubt in info_doubts(self._info, rectified=rectified, size=size):
                    self.get_logger().warning(f"{topic}: {doubt}")
                return camera
            except GeometryError as error:
                fault = f"{topic} is not used: {error}"
        self.get_logger().warning(f"{fault}; the map will hold no intrinsics")
        return Camera(*size, 0.0, 0.0, 0.0, 0.0, (), base_from_camera)

    async def _on_finish(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = waking_future(self)
        self._map.finish(answer)
        response.success, response.message = await answer
        self.get_logger().info(response.message)
        return response


def main(args: list[str] | None = None) -> int:
    """Run the executable map_builder_node."""
    return process.run(NAME, MapBuilderNode, args)
