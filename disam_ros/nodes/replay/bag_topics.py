# SPDX-License-Identifier: Apache-2.0
"""Topics of a bag for the localizer. Needs no ROS."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_topics import IMAGE_TYPES, camera_name, find_cameras, info_topic
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.survey import side_topics
from disam_ros.errors import BagError, MapError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagTopics:
    """The image topic of one camera, and the side topics of the localizer."""

    camera: str  # name of the camera in the bag
    mapped: str  # name of the camera in the map
    image: str  # image topic
    transport: str  # raw or compressed
    images: int  # number of images
    # Topic of the bag by the localizer's relative name: camera_info, weather, fix and odom where
    # the bag has them.
    side_topics: dict[str, str]

    @property
    def played(self) -> list[str]:
        """Returns all topics, the image topic last."""
        return [*self.side_topics.values(), self.image]

    @property
    def remappings(self) -> dict[str, str]:
        """Maps the localizer's relative names to topics of the bag."""
        name = "image/compressed" if self.transport == "compressed" else "image"
        return {**self.side_topics, name: self.image}

    @property
    def parameters(self) -> dict[str, object]:
        """Returns parameters of the localizer: the map's extrinsics, fixes that arrive reliably."""
        values: dict[str, object] = {
            "cameras": [self.mapped],
            "image_transport": self.transport,
            "use_tf": False,
            "use_sim_time": True,
        }
        if "fix" in self.side_topics:
            values[f"qos_overrides.{self.side_topics['fix']}.subscription.reliability"] = "reliable"
        return values


def find_topics(
    bag: Path | str, map_cameras: list[str], camera: str = "", options: BagOptions | None = None
) -> BagTopics:
    """Finds the topics of a bag that the localizer uses.

    map_cameras: names of the map's cameras; where the map has only one, the bag's may have another
    name. camera: its name in the bag, or its image topic; empty: the bag's only camera.
    Raises BagError, listing what the bag holds, MapError where the map lacks the camera.
    """
    with BagReader(bag) as reader:
        name, topic = _image_topic(reader, camera, options or BagOptions())
        held = reader.topics()
        sides = side_topics(reader)
        if (info := info_topic(topic)) in held:
            sides = {"camera_info": [info], **sides}
    for use, topics in sides.items():
        if len(topics) > 1:
            logger.warning("%s: of %s the localizer uses the first as %s", bag, topics, use)
    if name not in map_cameras and len(map_cameras) > 1:
        raise MapError(f"{bag}: camera '{name}' is none of the map's: {', '.join(map_cameras)}")
    return BagTopics(
        camera=name,
        mapped=name if name in map_cameras else map_cameras[0],
        image=topic,
        transport="compressed" if held[topic].type == messages.COMPRESSED_IMAGE else "raw",
        images=held[topic].count,
        side_topics={use: topics[0] for use, topics in sides.items()},
    )


def _image_topic(reader: BagReader, camera: str, options: BagOptions) -> tuple[str, str]:
    """Returns a camera's name and its image topic."""
    if camera.startswith("/"):
        topics = sorted(reader.topics_of(*IMAGE_TYPES))
        if camera not in topics:
            names = ", ".join(topics) or "none"
            raise BagError(f"bag {reader.path} has no images on {camera}; image topics: {names}")
        return camera_name(camera), camera
    chosen = find_cameras(reader, options.image_topics).topics
    cameras = {name: topic.topic for name, topic in chosen.items()}
    if not camera and len(cameras) == 1:
        return next(iter(cameras.items()))
    if camera not in cameras:
        names = ", ".join(f"{name} ({topic})" for name, topic in cameras.items())
        fault = f"has no camera '{camera}'" if camera else "has several cameras: name one"
        raise BagError(f"bag {reader.path} {fault}; it holds: {names}")
    return camera, cameras[camera]
