# SPDX-License-Identifier: Apache-2.0
"""Topics of a bag for the localizer. Needs no ROS."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.cameras import IMAGE_TYPES, camera_name, find_image_topics, info_topic
from disam_ros.datasets.bags.images import side_topics
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.errors import BagError, MapError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagTopics:
    """The image topic of one camera, and the side topics of the localizer.

    camera: its name in the bag. mapped: its name in the map. image: its topic. transport: 'raw' or
    'compressed'. images: their number. side_topics: the localizer's relative name → topic of the
    bag, of camera_info, weather, fix and odom where the bag has them.
    """

    camera: str
    mapped: str
    image: str
    transport: str
    images: int
    side_topics: dict[str, str]

    @property
    def played(self) -> list[str]:
        """All topics, the image topic last."""
        return [*self.side_topics.values(), self.image]

    @property
    def remappings(self) -> dict[str, str]:
        """The localizer's relative name → topic of the bag."""
        name = "image/compressed" if self.transport == "compressed" else "image"
        return {**self.side_topics, name: self.image}

    @property
    def parameters(self) -> dict[str, object]:
        """Parameters of the localizer: the map's extrinsics, and fixes that arrive reliably."""
        values = {
            "cameras": [self.mapped],
            "image_transport": self.transport,
            "use_tf": False,
            "use_sim_time": True,
        }
        if "fix" in self.side_topics:
            values[f"qos_overrides.{self.side_topics['fix']}.subscription.reliability"] = "reliable"
        return values


def find_topics(bag: Path | str, map_cameras: list[str], camera: str = "") -> BagTopics:
    """Find the topics of a bag that the localizer uses.

    map_cameras: names of the map's cameras; where the map has only one, the bag's may have another
    name. camera: its name in the bag, or its image topic; empty: the bag's only camera.
    Raises BagError, listing what the bag holds, MapError where the map lacks the camera.
    """
    with BagReader(bag) as reader:
        name, topic = _image_topic(reader, camera)
        held = reader.topics()
        found = side_topics(reader)
        if (info := info_topic(topic)) in held:
            found = {"camera_info": [info], **found}
    for what, topics in found.items():
        if len(topics) > 1:
            logger.warning("%s: of %s the localizer uses the first as %s", bag, topics, what)
    if name not in map_cameras and len(map_cameras) > 1:
        raise MapError(f"{bag}: camera '{name}' is none of the map's: {', '.join(map_cameras)}")
    return BagTopics(
        camera=name,
        mapped=name if name in map_cameras else map_cameras[0],
        image=topic,
        transport="compressed" if held[topic].type == messages.COMPRESSED_IMAGE else "raw",
        images=held[topic].count,
        side_topics={what: topics[0] for what, topics in found.items()},
    )


def _image_topic(reader: BagReader, camera: str) -> tuple[str, str]:
    """A camera's name and its image topic."""
    if camera.startswith("/"):
        topics = sorted(reader.topics_of(*IMAGE_TYPES))
        if camera not in topics:
            known = ", ".join(topics) or "none"
            raise BagError(f"bag {reader.path} has no images on {camera}; image topics: {known}")
        return camera_name(camera), camera
    cameras = find_image_topics(reader)
    if not camera and len(cameras) == 1:
        return next(iter(cameras.items()))
    if camera not in cameras:
        known = ", ".join(f"{name} ({topic})" for name, topic in cameras.items())
        what = f"has no camera '{camera}'" if camera else "has several cameras: name one"
        raise BagError(f"bag {reader.path} {what}; it holds: {known}")
    return camera, cameras[camera]
