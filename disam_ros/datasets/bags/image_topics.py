# SPDX-License-Identifier: Apache-2.0
"""Finds the cameras of a bag: which of its image topics show what a camera sees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_messages import KNOWN_ENCODINGS, decode_image
from disam_ros.datasets.bags.options import ONLY
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.video import ImageMessages
from disam_ros.errors import BagError, ImageError

logger = logging.getLogger(__name__)
IMAGE_TYPES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
VIDEO_TYPES = (messages.FFMPEG_PACKET, messages.COMPRESSED_VIDEO)
# Last names of the topics of a transport below the raw topic.
TRANSPORTS = {
    *("compressed", "compressedDepth", "theora", "ffmpeg", "video", "zstd", "draco", "avif"),
    *("h264", "h265", "hevc", "av1", "jpegxl", "foxglove", "image_raw_compressed"),
}
PREFERRED = ("image_raw", "image_rect", "image_color", "image", "image_rect_color", "image_mono")
DERIVED = (
    "debug",
    "dbg",
    "annotated",
    "overlay",
    "detection",
    "visual",
    "mask",
    "heatmap",
    "track",
)
ATTEMPTS = 30  # images of a topic that are tried until one can be read
OPTION = "name it with --image-topic"


@dataclass(frozen=True)
class ImageTopic:
    """An image topic of a bag."""

    topic: str
    type: str  # such as sensor_msgs/msg/Image
    count: int  # number of messages
    image: Any = None  # its first readable image, a message; None: there is none
    size: tuple[int, int] = (0, 0)  # height and width of that image [px]
    info: Any = None  # first camera_info beside it; None: there is none
    fault: str = ""  # why it shows no camera's view; empty: it may

    @property
    def frame(self) -> str:
        """Name of its optical frame; empty where its images name none."""
        return "" if self.image is None else messages.frame(self.image.header.frame_id)

    @property
    def raw(self) -> str:
        """Name of the topic of the raw images."""
        return raw_topic(self.topic)


@dataclass(frozen=True)
class Cameras:
    """The cameras of a bag."""

    topics: Mapping[str, ImageTopic]  # chosen, by the name of the camera
    left_out: Sequence[ImageTopic]  # others, with the fault for which each is left out


def find_cameras(reader: BagReader, chosen_topics: Mapping[str, str] | None = None) -> Cameras:
    """Find the cameras of a bag by its messages.

    A topic shows a camera if its images have colours or grey values. Of several topics of one
    camera (one optical frame and one baseline, else one namespace) one is taken: with a camera_info
    beside it, by PREFERRED, raw before compressed before video. Without a camera_info, images in
    the frame of another camera and those whose names tell that they are drawn upon are none.

    chosen_topics: image topics by camera, in place of all this.
    Raises BagError where no camera is found, listing why.
    """
    if chosen_topics:
        return _chosen(reader, chosen_topics)
    examined = _examine_all(reader)
    cameras: dict[str, list[ImageTopic]] = {}
    left_out = [topic for topic in examined if topic.fault]
    views = [topic for topic in examined if not topic.fault]
    described = [topic for topic in views if topic.info is not None]
    for topic in views:
        if fault := _derivation(topic, described):
            left_out.append(replace(topic, fault=fault))
            continue
        cameras.setdefault(_identity(topic), []).append(topic)
    chosen = []
    for topics in cameras.values():
        best, *others = sorted(topics, key=_preference)
        chosen.append(best)
        left_out += [
            replace(topic, fault=f"the images of {best.topic} are the same camera's")
            for topic in others
        ]
    if not chosen:
        raise BagError(
            f"bag {reader.path} holds no colour images; it holds: "
            f"{reader.listing({topic.topic: topic.fault for topic in left_out})}"
        )
    named = _named(sorted(chosen, key=lambda topic: topic.topic))
    for topic in left_out:
        if topic.raw not in {camera.raw for camera in chosen}:
            logger.info("%s: %s is left out: %s", reader.path, topic.topic, topic.fault)
    return Cameras(named, left_out)


def image_topics(reader: BagReader) -> list[str]:
    """List the topics of images and video, raw ones before their transports."""
    return sorted(reader.topics_of(*IMAGE_TYPES)) + sorted(reader.topics_of(*VIDEO_TYPES))


def camera_name(topic: str) -> str:
    """The path element before `image…` or `video…`: /camera/front/image_raw/compressed → front."""
    parts = [p for p in topic.split("/") if p]
    at = next((i for i, p in enumerate(parts) if p.startswith(("image", "video"))), len(parts))
    return parts[at - 1] if at else "camera"


def raw_topic(topic: str) -> str:
    """The topic of the raw images that a transport carries; the topic itself if it is raw."""
    parent, _, name = topic.rpartition("/")
    is_transport = name in TRANSPORTS and bool(parent.strip("/"))
    if name == "video":  # also the name of a topic of its own
        is_transport = parent.rsplit("/", 1)[-1].startswith("image")
    return parent if is_transport else topic


def info_topic(topic: str) -> str:
    """The camera_info topic of an image topic (the convention of image_transport)."""
    return raw_topic(topic).rsplit("/", 1)[0] + "/camera_info"


def for_camera(values: Mapping[str, Any], name: str) -> Any | None:
    """Look up what is said of a camera, or of the only one."""
    return values.get(name, values.get(ONLY))


def _chosen(reader: BagReader, chosen: Mapping[str, str]) -> Cameras:
    """The cameras of the topics that a user names."""
    held, topics = reader.topics(), dict[str, ImageTopic]()
    for name, topic in chosen.items():
        recorded = [
            other for other in image_topics(reader) if other == topic or raw_topic(other) == topic
        ]
        if not recorded:
            near = held.get(topic)
            fault = f"carries {near.type}, no images" if near else "is not in it"
            raise BagError(
                f"bag {reader.path}: --image-topic {topic} {fault}; its image topics: "
                f"{', '.join(image_topics(reader)) or 'none'}"
            )
        camera = name or camera_name(recorded[0])
        examined = _examine(reader, recorded[0])
        if examined.fault:
            raise BagError(
                f"bag {reader.path}: {topic} holds no image that can be read; {examined.fault}"
            )
        if camera in topics:
            raise BagError(
                f"{topics[camera].topic} and {topic} would both be camera '{camera}': name them, "
                "--image-topic NAME=TOPIC"
            )
        topics[camera] = examined
    return Cameras(topics, ())


def _examine_all(reader: BagReader) -> list[ImageTopic]:
    """Examine all image topics, of the transports of one raw topic up to the first readable one."""
    transports: dict[str, list[str]] = {}
    for topic in image_topics(reader):
        transports.setdefault(raw_topic(topic), []).append(topic)
    examined = []
    for topics in transports.values():
        for topic in sorted(
            topics, key=lambda topic: _transport(reader.topics()[topic].type, topic)
        ):
            examined.append(_examine(reader, topic))
            if not examined[-1].fault:
                break
    return examined


def _transport(kind: str, topic: str) -> int:
    """A key that sorts transports of one topic: raw, compressed, others, video."""
    name = "" if raw_topic(topic) == topic else topic.rsplit("/", 1)[-1]
    return {"": 0, "compressed": 1}.get(name, 2) + 3 * (kind in VIDEO_TYPES)


def _examine(reader: BagReader, topic: str) -> ImageTopic:
    """Read the first images of a topic until one can be decoded, and its camera_info."""
    held, described = reader.topics(), info_topic(topic)
    summary = held[topic]
    examined = ImageTopic(
        topic,
        summary.type,
        summary.count,
        info=reader.first(described) if described in held else None,
    )
    fault, images = "it holds no messages", ImageMessages(reader)
    for attempt, raw in enumerate(reader.raw([topic])):
        try:
            completed = images.of(raw)
        except BagError as error:  # PyAV or the codec is missing
            return replace(examined, fault=str(error))
        for message, _ in completed:
            try:
                if isinstance(message, BagError):
                    raise message
                if kind := _other_kind(message):
                    return replace(examined, fault=kind)
                height, width, _ = decode_image(message, whole=True).shape
                return replace(examined, image=message, size=(height, width))
            except (BagError, ImageError) as error:
                fault = f"the last one that was tried: {error}"
        if attempt >= ATTEMPTS and raw.type in IMAGE_TYPES:
            break
    return replace(examined, fault=f"no image can be read; {fault}")


def _other_kind(message: Any) -> str:
    """Why a message is no image of colours or grey values; empty: it is one."""
    encoding = getattr(message, "encoding", None)
    if encoding is None:  # a CompressedImage
        form = str(message.format)
        is_depth = "compressedDepth" in form or form.startswith(("16UC1", "32FC1"))
        return f"its format '{form}' is of depth" if is_depth else ""
    if encoding in KNOWN_ENCODINGS:
        return ""
    return f"its encoding '{encoding}' is none of colours or grey values"


def _derivation(topic: ImageTopic, described: Sequence[ImageTopic]) -> str:
    """Why images without camera_info are made of a camera's; empty: they are not."""
    if topic.info is not None or not described:
        return ""
    sources = [other.topic for other in described if topic.frame and other.frame == topic.frame]
    if sources:
        return (
            f"without a camera_info and in the frame '{topic.frame}' of {sources[0]}, it seems to "
            f"be made of these images; if it is a camera, {OPTION}"
        )
    if word := next((word for word in DERIVED if word in topic.topic.lower()), None):
        return (
            f"without a camera_info and by its name ('{word}') it seems to be drawn upon; if it is "
            f"a camera, {OPTION}"
        )
    return ""


def _identity(topic: ImageTopic) -> str:
    """A text that is one for topics of one camera."""
    if not topic.frame or topic.info is None:
        return f"{topic.raw.rpartition('/')[0]} {topic.frame}"
    return f"{topic.frame} {float(topic.info.p[3]):g}"  # the second of a stereo pair has a baseline


def _preference(topic: ImageTopic) -> tuple[Any, ...]:
    """A key that sorts topics of one camera, the best first."""
    name = topic.raw.rsplit("/", 1)[-1]
    rank = PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)
    drawn = any(word in topic.topic.lower() for word in DERIVED)
    return topic.info is None, drawn, rank, _transport(topic.type, topic.topic), topic.topic


def _named(topics: Sequence[ImageTopic]) -> dict[str, ImageTopic]:
    """Name cameras by the element before `image…`, with those above it where two are equal."""
    levels: Sequence[Callable[[str], str]] = (camera_name, _whole_name)
    for name_of in levels:
        named = {name_of(topic.topic): topic for topic in topics}
        if len(named) == len(topics):
            return named
    names = ", ".join(topic.topic for topic in topics)
    raise BagError(f"the names of {names} do not tell cameras apart: --image-topic NAME=TOPIC")


def _whole_name(topic: str) -> str:
    """The whole namespace of an image topic: /left/camera/image_raw → left_camera."""
    return raw_topic(topic).rpartition("/")[0].strip("/").replace("/", "_") or "camera"
