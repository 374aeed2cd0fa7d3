# SPDX-License-Identifier: Apache-2.0
"""The images of a bag with interpolated camera poses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, same_shape
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.bit_depth import BitDepth
from disam_ros.datasets.bags.fixes import find_origin
from disam_ros.datasets.bags.image_messages import decode_image, has_16_bits, size_of_image
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.pose_sources import FilePoses, PoseSource, Recording, TopicPoses
from disam_ros.datasets.bags.poses import read_odometry
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.survey import ODOM, Survey, survey_bag
from disam_ros.datasets.bags.video import ImageMessages
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.domains.domain import parse_weather
from disam_ros.errors import BagError, DomainError, ImageError
from disam_ros.fixes import place_of
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS, PoseBuffer, Track

logger = logging.getLogger(__name__)
MAP_FRAME = "map"


class BagImage(NamedTuple):
    """An image message of a bag."""

    number: int  # position among the images, from 0
    camera: str
    topic: str
    stamp_ns: int  # of the header; when it was recorded where the message cannot be read
    message: Any  # sensor_msgs Image or CompressedImage; the error where it cannot be read
    map_from_camera: Transform | None  # None: no pose is known at its stamp
    weather: str | None  # the last valid word before it; None before the first
    place: tuple[float, float] | None  # last valid fix before it, latitude and longitude [deg]
    odometry: int  # number of poses of `BagImages.odometry` that were recorded before it
    bit_depth: BitDepth  # of its camera


class BagImages:
    """The images of a bag in the order of their log times, read again in every iteration.

    options: what a user says of it. poses: their source, which may also know where on Earth the map
    is. mapped: cameras of the map, whose calibration and extrinsics are taken where the bag has
    none; the only one of both by any name. max_pose_gap: time [s] between two poses beyond which
    none is interpolated. mounted: refuse cameras whose extrinsics nobody knows, which else are
    assumed at the base's origin, looking ahead.

    Attributes: track, map_from_base; pose_fault, why none is known; odometry, odom_from_base as
    recorded, None without any. Raises BagError where the bag lacks images or poses.
    """

    def __init__(
        self,
        bag: Path | str,
        options: BagOptions | None = None,
        *,
        poses: PoseSource | None = None,
        mapped: Mapping[str, Camera] | None = None,
        max_pose_gap: float = 0.5,
        mounted: bool = False,
    ) -> None:
        self.bag, self.options = Path(bag), options or BagOptions()
        with self.reader() as reader:
            survey = survey_bag(reader, self.options, mapped)
            for name, fault in survey.mount_faults.items():
                if isinstance(poses, FilePoses) and poses.frame == name:
                    continue  # its own poses need no extrinsics
                if mounted:
                    raise BagError(f"bag {bag}: {fault}. A map without extrinsics would be turned")
                logger.warning(
                    "%s: %s; assuming camera '%s' at its origin, looking ahead", bag, fault, name
                )
            for name, topic in survey.image_topics.items():
                logger.info(
                    "%s: camera '%s': %s, intrinsics from %s, mount from %s",
                    bag,
                    name,
                    topic,
                    survey.intrinsics[name],
                    survey.mounts[name],
                )
            self.topics, self._side_topics = survey.image_topics, survey.side_topics
            self._bit_depths = {
                name: read_bit_depth(reader, topic, BitDepth(name, self.options.bit_depth))
                for name, topic in self.topics.items()
            }
            recording, self._usable = open_recording(reader, survey, self.options, max_pose_gap)
            self.odometry = recording.odometry
            trajectory = (poses or TopicPoses()).read(recording)
            self.track = PoseBuffer.of(*trajectory.track, recording.max_gap_ns)
            origin = trajectory.origin or find_origin(reader, self.track)
            self.pose_fault = trajectory.fault
            held = reader.topics()
            self._total = sum(held[topic].count for topic in self.topics.values())
        self.info = DatasetInfo(
            name=self.bag.stem,
            cameras=survey.cameras,
            map_frame=self.options.map_frame or MAP_FRAME,
            latitude=None if origin is None else origin.latitude,
            longitude=None if origin is None else origin.longitude,
            origin=f"bag {self.bag.name}",
        )

    def reader(self) -> BagReader:
        """Open the bag, with its stamps as the options say."""
        return BagReader(self.bag, self.options.recorded_stamps)

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[BagImage]:
        camera_of = {topic: camera for camera, topic in self.topics.items()}
        weather: str | None = None
        place: tuple[float, float] | None = None
        recorded = 0  # odometry messages
        numbers = count()

        def image(topic: str, message: Any, stamp_ns: int) -> BagImage:
            return BagImage(
                number=next(numbers),
                camera=camera_of[topic],
                topic=topic,
                stamp_ns=stamp_ns,
                message=self._of_shape(camera_of[topic], message),
                map_from_camera=self._map_from_camera(camera_of[topic], stamp_ns),
                weather=weather,
                place=place,
                odometry=self._usable[recorded],
                bit_depth=self._bit_depths[camera_of[topic]],
            )

        with self.reader() as reader:
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
            for topic, message, stamp_ns in images.rest():
                yield image(topic, message, stamp_ns)

    def _of_shape(self, camera: str, message: Any) -> Any:
        """Return the message, or an error where its image has another shape than the camera."""
        lens = self.info.cameras[camera]
        try:
            if isinstance(message, BagError):
                return message
            height, width = size_of_image(message)
        except ImageError:
            return message  # the error is raised where it is decoded
        if same_shape((width, height), (lens.width, lens.height)):
            return message
        return BagError(
            f"it has {width}x{height} pixels, expected the shape of the camera, {lens.width}x"
            f"{lens.height}: record images of another shape as another camera's"
        )

    def _map_from_camera(self, camera: str, stamp_ns: int) -> Transform | None:
        """The camera's pose at a stamp; None: unknown."""
        base = self.track.at(stamp_ns)
        return None if base is None else base @ self.info.cameras[camera].base_from_camera


def open_recording(
    reader: BagReader, survey: Survey, options: BagOptions, max_pose_gap: float
) -> tuple[Recording, list[int]]:
    """What poses are read from, and how many of the first 0, 1, 2… messages of odometry are usable.

    max_pose_gap: longest time between poses across which is interpolated [s].
    """
    odometry, counts, topic = None, [0], survey.side_topics.get(ODOM, "")
    if topic:
        stamps, poses = read_odometry(reader, topic)
        usable = np.array([pose is not None for pose in poses])
        counts += np.cumsum(usable).tolist()
        odometry = Track(stamps[usable], [pose for pose in poses if pose is not None])
    recording = Recording(
        reader,
        survey.tree,
        options.map_frame or MAP_FRAME,
        survey.base_frame,
        survey.image_topics,
        survey.cameras,
        topic,
        odometry,
        round(max_pose_gap * NANOSECONDS),
        survey.mount_faults,
    )
    return recording, counts


def pixels_of(item: BagImage, bag: Path, whole: bool = False) -> NDArray[np.uint8]:
    """Decode an image of a bag: uint8 RGB [H, W, 3]. whole: see `image.decode`.

    Raises ImageError, naming bag, topic and stamp, where it is damaged.
    """
    try:
        if isinstance(item.message, BagError):
            raise ImageError(str(item.message)) from item.message
        return decode_image(item.message, whole=whole, bit_depth=item.bit_depth)
    except ImageError as error:
        place = f"bag {bag}, {item.topic} at {item.stamp_ns} ns"
        raise ImageError(f"{place}: {error}") from error


def read_bit_depth(reader: BagReader, topic: str, bit_depth: BitDepth) -> BitDepth:
    """Learn from the first images of a topic how many of 16 bits they use."""
    images = ImageMessages(reader)
    for raw in reader.raw([topic]):
        for message, _ in images.of(raw):
            if isinstance(message, BagError):
                continue
            if bit_depth.settled or not has_16_bits(message):
                return bit_depth
            with suppress(ImageError):
                decode_image(message, bit_depth=bit_depth)
    bit_depth.settle()
    return bit_depth


def is_weather(word: str) -> bool:
    """Whether a weather word is known."""
    try:
        parse_weather(word)
    except DomainError:
        return False
    return True
