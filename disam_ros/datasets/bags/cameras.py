# SPDX-License-Identifier: Apache-2.0
"""The cameras of a bag: image topics, intrinsics and extrinsics."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from disam_ros.camera import (
    Camera,
    camera_of_info,
    info_doubts,
    is_calibrated,
    is_rectified,
    same_shape,
)
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.poses import forward_camera, read_base_from_camera
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.video import ImageMessages
from disam_ros.errors import BagError, GeometryError, ImageError
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)
IMAGE_TYPES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
VIDEO_TYPES = (messages.FFMPEG_PACKET, messages.COMPRESSED_VIDEO)
TRANSPORTS = ("/compressed", "/ffmpeg", "/video")  # topics of the same images below a raw topic


def find_image_topics(reader: BagReader) -> dict[str, str]:
    """Find every camera of a bag: camera name → image topic.

    A camera recorded raw and compressed is read from the raw topic; from a compressed one rather
    than from a video. Depth images are left out.
    Raises BagError where there is no image topic, or where two cameras would share a name.
    """
    cameras: dict[str, str] = {}
    stills, videos = (sorted(reader.topics_of(*kinds)) for kinds in (IMAGE_TYPES, VIDEO_TYPES))
    for topic in [*stills, *videos]:  # X before X/compressed
        if "depth" in topic.lower():
            continue
        name = camera_name(topic)
        if name not in cameras:
            cameras[name] = topic
        elif _raw_topic(topic) != _raw_topic(cameras[name]):
            raise BagError(
                f"bag {reader.path}: {cameras[name]} and {topic} would both be camera '{name}'; "
                "name the image topics to use"
            )
    if not cameras:
        held = ", ".join(f"{topic} ({s.type})" for topic, s in reader.topics().items())
        raise BagError(f"bag {reader.path} holds no colour images; it holds: {held or 'nothing'}")
    return cameras


def camera_name(topic: str) -> str:
    """The path element before `image…` or `video…`: /camera/front/image_raw/compressed → front."""
    parts = [p for p in topic.split("/") if p]
    at = next((i for i, p in enumerate(parts) if p.startswith(("image", "video"))), len(parts))
    return parts[at - 1] if at else "camera"


def _raw_topic(topic: str) -> str:
    """The topic of the images that a transport compresses."""
    return next((topic.removesuffix(end) for end in TRANSPORTS if topic.endswith(end)), topic)


def info_topic(topic: str) -> str:
    """The camera_info topic of an image topic (the convention of image_transport)."""
    base = topic if topic.endswith("/video") else _raw_topic(topic)
    return base.rsplit("/", 1)[0] + "/camera_info"


def read_camera(
    reader: BagReader,
    topic: str,
    base_frame: str,
    base_from_camera: Transform | None = None,
    mapped: Camera | None = None,
) -> Camera:
    """Read intrinsics and extrinsics of the camera behind an image topic.

    Extrinsics come from /tf_static, else from `base_from_camera`, else from `mapped`, the map's
    camera, else the camera is assumed at the base's origin, facing forward; intrinsics come from
    camera_info, else from `mapped`, else a horizontal field of view of 53° is assumed. Assumptions
    and a camera_info that cannot be used are logged as warnings.
    """
    image, size = _first_image(reader, topic)
    pose = read_base_from_camera(reader, image.header.frame_id, base_frame) or base_from_camera
    if pose is None and mapped is not None:
        pose = mapped.base_from_camera
    if pose is None:
        pose = forward_camera()
        logger.warning(
            "%s: neither /tf_static nor the settings place frame '%s' of %s on '%s'; "
            "assuming a camera at its origin that looks ahead",
            reader.path,
            image.header.frame_id,
            topic,
            base_frame,
        )
    described = info_topic(topic)
    info = _first(reader, described) if described in reader.topics() else None
    if info is not None and is_calibrated(info):
        rectified, shape = is_rectified(topic), size[::-1]
        try:
            camera = camera_of_info(info, pose, rectified=rectified, size=shape)
            camera.check()
            for doubt in info_doubts(info, rectified=rectified, size=shape):
                logger.warning("%s: %s: %s", reader.path, described, doubt)
            return camera
        except GeometryError as fault:
            logger.warning("%s: %s is not used: %s", reader.path, described, fault)
    height, width = size
    if mapped is not None and same_shape((mapped.width, mapped.height), (width, height)):
        return replace(mapped, base_from_camera=pose)
    other = (
        f", and the images, {width}×{height}, have another shape than those of the map's camera, "
        f"{mapped.width}×{mapped.height}"
        if mapped is not None
        else ""
    )
    logger.warning(
        "%s: no calibration on %s%s; assuming a focal length of %d pixels",
        reader.path,
        described,
        other,
        width,
    )
    return Camera.assumed(width, height, pose)


def _first_image(reader: BagReader, topic: str) -> tuple[Any, tuple[int, int]]:
    """Read the first image of a topic that is not damaged, with its height and width.

    Raises BagError where there is none.
    """
    fault = "it holds no messages"
    images = ImageMessages(reader)
    for raw in reader.raw([topic]):
        for message, _ in images.of(raw):
            try:
                if isinstance(message, BagError):
                    raise message
                height, width, _ = decode_image(message, whole=True).shape
                return message, (height, width)
            except (BagError, ImageError) as error:
                fault = f"the last one: {error}"
    raise BagError(f"bag {reader.path}: {topic} holds no image that can be read; {fault}")


def _first(reader: BagReader, topic: str) -> Any | None:
    return next((message for _, message in reader.messages([topic])), None)
