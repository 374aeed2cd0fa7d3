# SPDX-License-Identifier: Apache-2.0
"""The images of a bag, each with the pose of its camera."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from disam_ros import geometry
from disam_ros.bags import messages
from disam_ros.bags.cameras import find_image_topics, read_camera
from disam_ros.bags.poses import read_poses
from disam_ros.bags.reader import BagReader
from disam_ros.dataset import DatasetInfo
from disam_ros.geometry import Transform


class BagImage(NamedTuple):
    """One image message. map_from_camera: None where no pose is known at its stamp."""

    camera: str
    topic: str
    stamp_ns: int
    message: Any  # sensor_msgs Image or CompressedImage
    map_from_camera: Transform | None


class BagImages:
    """Iterates over the images of a bag in the order of their log times; each pass reads anew.

    image_topics: camera name → topic; None takes all image topics, named by the path element
    before `image…`. pose_topic: see `read_poses`. base_from_camera: used for cameras that
    /tf_static does not place. max_pose_gap: seconds between two poses beyond which none is
    interpolated. Raises BagError where the bag lacks images or poses.
    """

    def __init__(
        self,
        bag: Path | str,
        *,
        image_topics: Mapping[str, str] | None = None,
        pose_topic: str | None = None,
        base_from_camera: Mapping[str, Transform] | None = None,
        map_frame: str = "map",
        base_frame: str = "base_link",
        max_pose_gap: float = 0.5,
    ) -> None:
        self.bag = Path(bag)
        self._max_gap_ns = round(max_pose_gap * 1e9)
        with BagReader(bag) as reader:
            self.topics = dict(image_topics or find_image_topics(reader))
            placed = dict(base_from_camera or {})
            cameras = {
                name: read_camera(reader, topic, base_frame, placed.get(name))
                for name, topic in self.topics.items()
            }
            latitude, longitude = first_fix(reader)
            self.stamps_ns, self.poses = read_poses(
                reader, pose_topic, map_frame=map_frame, base_frame=base_frame
            )
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
        with BagReader(self.bag) as reader:
            for raw, message in reader.messages(list(camera_of)):
                camera = camera_of[raw.topic]
                stamp_ns = messages.stamp_ns(message)
                pose = self._map_from_camera(camera, stamp_ns)
                yield BagImage(camera, raw.topic, stamp_ns, message, pose)

    def _map_from_camera(self, camera: str, stamp_ns: int) -> Transform | None:
        base = geometry.interpolate(self.stamps_ns, self.poses, stamp_ns, self._max_gap_ns)
        return None if base is None else base @ self.info.cameras[camera].base_from_camera


def first_fix(reader: BagReader) -> tuple[float | None, float | None]:
    """Latitude and longitude (degrees) of the first valid satellite fix; None, None without."""
    for topic in reader.topics_of(messages.FIX):
        for _, fix in reader.messages([topic]):
            valid = fix.status.status >= 0 and abs(fix.latitude) <= 90 and abs(fix.longitude) <= 180
            if valid:  # a comparison with nan is false
                return fix.latitude, fix.longitude
    return None, None
