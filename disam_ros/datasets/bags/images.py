# SPDX-License-Identifier: Apache-2.0
"""The images of a bag with interpolated camera poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from disam_ros.camera import Camera, same_shape
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.cameras import find_image_topics, read_camera
from disam_ros.datasets.bags.fixes import FixPoses
from disam_ros.datasets.bags.image_messages import decode_image, size_of_image
from disam_ros.datasets.bags.poses import read_odometry, read_poses
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.trajectory import GivenTrajectory, require_overlap
from disam_ros.datasets.bags.video import ImageMessages, packet_of
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.domains.domain import parse_weather
from disam_ros.errors import BagError, DomainError, ImageError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import PoseBuffer

WEATHER, FIX, ODOM = "weather", "fix", "odom"  # as the localizer node names its topics


class BagImage(NamedTuple):
    """One image message. map_from_camera: None where no pose is known at its stamp.

    stamp_ns: of the header, or when it was recorded where the message cannot be read. Of the topics
    of `side_topics`: weather: the last valid word before it; place: latitude and
    longitude [deg] of the last valid fix before it; None before the first. odometry: number of
    poses of `BagImages.odometry` that were recorded before it.
    """

    camera: str
    topic: str
    stamp_ns: int
    message: Any  # sensor_msgs Image or CompressedImage; the error where it cannot be read
    map_from_camera: Transform | None
    weather: str | None
    place: tuple[float, float] | None
    odometry: int


class BagImages:
    """Iterates over the images of a bag in the order of their log times.

    image_topics: camera name → topic; None takes all image topics, named by the path element
    before `image…`. pose_topic: see `read_poses`. trajectory: poses in place of a topic's, which
    also says where on Earth the map is, if it knows. base_from_camera: extrinsics of cameras that
    /tf_static does not place. mapped: cameras of the map, whose calibration and extrinsics are
    taken where the bag has none; the only one of both by any name. max_pose_gap: seconds between
    two poses beyond which none is interpolated. require_poses: False takes a bag whose poses are
    absent or in another frame than `map_frame`, too; `pose_fault` then says why none is known.
    odometry: stamps int64 [N] and odom_from_base as recorded; None without any. Raises BagError
    where the bag lacks images or poses.
    """

    def __init__(
        self,
        bag: Path | str,
        *,
        image_topics: Mapping[str, str] | None = None,
        pose_topic: str | None = None,
        trajectory: GivenTrajectory | FixPoses | None = None,
        base_from_camera: Mapping[str, Transform] | None = None,
        mapped: Mapping[str, Camera] | None = None,
        map_frame: str = "map",
        base_frame: str = "base_link",
        max_pose_gap: float = 0.5,
        require_poses: bool = True,
    ) -> None:
        self.bag = Path(bag)
        self.pose_fault = ""
        max_gap_ns = round(max_pose_gap * 1e9)
        with BagReader(bag) as reader:
            self.topics = dict(image_topics or find_image_topics(reader))
            placed, known = base_from_camera or {}, mapped or {}
            if len(known) == len(self.topics) == 1:
                known = dict(zip(self.topics, known.values(), strict=True))
            cameras = {
                name: read_camera(reader, topic, base_frame, placed.get(name), known.get(name))
                for name, topic in self.topics.items()
            }
            latitude, longitude = first_fix(reader)
            self._side_topics = {name: topics[0] for name, topics in side_topics(reader).items()}
            self.odometry, self._usable = self._read_odometry(reader)
            frames = {"map_frame": map_frame, "base_frame": base_frame}
            try:
                if trajectory is None:
                    poses = read_poses(reader, pose_topic, **frames, any_frame=require_poses)
                else:
                    found = trajectory.of_base(reader, base_frame, cameras, self.odometry)
                    require_overlap(found, *self._span(reader), self.bag)
                    poses = found.stamps, found.poses
                    if found.origin is not None:
                        latitude, longitude = found.origin.latitude, found.origin.longitude
                self.track = PoseBuffer.of(*poses, max_gap_ns)
            except BagError as error:
                if require_poses or (pose_topic and pose_topic not in reader.topics()):
                    raise
                self.track = PoseBuffer(max_gap_ns)
                self.pose_fault = str(error)
            held = reader.topics()
            self._total = sum(held[topic].count for topic in self.topics.values())
        self.info = DatasetInfo(
            name=self.bag.stem,
            cameras=cameras,
            map_frame=map_frame,
            latitude=latitude,
            longitude=longitude,
            origin=f"bag {self.bag.name}",
        )

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[BagImage]:
        camera_of = {topic: camera for camera, topic in self.topics.items()}
        weather: str | None = None
        place: tuple[float, float] | None = None
        recorded = 0  # odometry messages

        def image(topic: str, message: Any, stamp_ns: int) -> BagImage:
            return BagImage(
                camera=camera_of[topic],
                topic=topic,
                stamp_ns=stamp_ns,
                message=self._of_shape(camera_of[topic], message),
                map_from_camera=self._map_from_camera(camera_of[topic], stamp_ns),
                weather=weather,
                place=place,
                odometry=self._usable[recorded],
            )

        with BagReader(self.bag) as reader:
            images = ImageMessages(reader)
            for raw in reader.raw([*camera_of, *self._side_topics.values()]):
                if raw.type == messages.ODOMETRY:
                    recorded += 1
                    continue
                if raw.topic in camera_of:
                    for message, stamp_ns in images.of(raw):
                        yield image(raw.topic, message, stamp_ns)
                    continue
                message = reader.decode(raw)
                if raw.type == messages.FIX:
                    place = place_of(message) or place
                elif is_weather(message.data):
                    weather = message.data or None
            for found in images.rest():
                yield image(*found)

    def _of_shape(self, camera: str, message: Any) -> Any:
        """The message; an error in its place where its image has another shape than the camera."""
        lens = self.info.cameras[camera]
        try:
            if isinstance(message, BagError):
                return message
            height, width = size_of_image(message)
        except ImageError:
            return message  # told where it is decoded
        if same_shape((width, height), (lens.width, lens.height)):
            return message
        return BagError(
            f"it has {width}x{height} pixels, expected the shape of the camera, {lens.width}x"
            f"{lens.height}: record images of another shape as another camera's"
        )

    def _read_odometry(
        self, reader: BagReader
    ) -> tuple[tuple[np.ndarray, list[Transform]] | None, list[int]]:
        """Usable odometry, and how many of the first 0, 1, 2… messages are usable."""
        if ODOM not in self._side_topics:
            return None, [0]
        stamps, poses = read_odometry(reader, self._side_topics[ODOM])
        usable = np.array([pose is not None for pose in poses])
        counts = [0, *np.cumsum(usable).tolist()]
        return (stamps[usable], [pose for pose in poses if pose is not None]), counts

    def _span(self, reader: BagReader) -> tuple[int, int]:
        """Stamps [ns] of the first image and, as the log times go on, of the last."""
        first = next(iter(reader.raw([*self.topics.values()])), None)
        if first is None:
            return reader.start_ns, reader.end_ns
        try:
            message = reader.decode(first)
            packet = packet_of(message)
            start_ns = messages.stamp_ns(message) if packet is None else packet.stamp_ns
        except BagError:
            start_ns = first.stamp_ns
        return start_ns, start_ns + reader.end_ns - first.stamp_ns

    def _map_from_camera(self, camera: str, stamp_ns: int) -> Transform | None:
        base = self.track.at(stamp_ns)
        return None if base is None else base @ self.info.cameras[camera].base_from_camera


def pixels_of(found: BagImage, bag: Path, whole: bool = False) -> np.ndarray:
    """Pixels of an image of a bag, uint8 RGB [H, W, 3]; `whole` as of `image.decode`.

    Raises ImageError, naming bag, topic and stamp, where it is damaged.
    """
    try:
        if isinstance(found.message, BagError):
            raise ImageError(str(found.message)) from found.message
        return decode_image(found.message, whole=whole)
    except ImageError as error:
        place = f"bag {bag}, {found.topic} at {found.stamp_ns} ns"
        raise ImageError(f"{place}: {error}") from error


def side_topics(reader: BagReader) -> dict[str, list[str]]:
    """Topics of WEATHER, FIX and ODOM that were recorded; the first of each is used."""
    odometry = reader.topics_of(messages.ODOMETRY)
    found = {
        WEATHER: [t for t in reader.topics_of(messages.STRING) if t.endswith("/weather")],
        FIX: reader.topics_of(messages.FIX),
        ODOM: sorted(odometry, key=lambda topic: topic != "/odom"),
    }
    return {name: topics for name, topics in found.items() if topics}


def first_fix(reader: BagReader) -> tuple[float | None, float | None]:
    """Latitude and longitude (degrees) of the first valid satellite fix; None, None without."""
    for topic in reader.topics_of(messages.FIX):
        for _, fix in reader.messages([topic]):
            if (place := place_of(fix)) is not None:
                return place
    return None, None


def place_of(fix: Any) -> tuple[float, float] | None:
    """Latitude and longitude (degrees) of a NavSatFix; None where it is not valid."""
    valid = fix.status.status >= 0 and abs(fix.latitude) <= 90 and abs(fix.longitude) <= 180
    return (fix.latitude, fix.longitude) if valid else None  # a comparison with nan is false


def is_weather(word: str) -> bool:
    """Whether a weather word is known."""
    try:
        parse_weather(word)
    except DomainError:
        return False
    return True
