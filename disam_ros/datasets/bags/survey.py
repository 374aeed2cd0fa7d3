# SPDX-License-Identifier: Apache-2.0
"""Surveys a bag: its cameras, frames and side topics, and where each is known from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from disam_ros.camera import Camera
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.cameras import forward_camera, read_camera, read_mount
from disam_ros.datasets.bags.image_topics import Cameras, find_cameras, for_camera
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.tf import TfTree
from disam_ros.errors import BagError

WEATHER, FIX, ODOM = "weather", "fix", "odom"  # as the localizer node names its topics


@dataclass(frozen=True)
class Survey:
    """The cameras, frames and side topics of a bag."""

    topics: Cameras  # image topics that are used, and those that are not
    tree: TfTree
    base_frame: str
    cameras: dict[str, Camera]
    intrinsics: Mapping[str, str]  # where they come from, by camera
    mounts: Mapping[str, str]  # where they come from, by camera
    mount_faults: Mapping[str, str]  # why they are assumed, by camera
    side_topics: Mapping[str, str]  # of WEATHER, FIX and ODOM

    @property
    def image_topics(self) -> dict[str, str]:
        """Image topic by camera."""
        return {name: topic.topic for name, topic in self.topics.topics.items()}


def survey_bag(
    reader: BagReader, options: BagOptions, mapped: Mapping[str, Camera] | None = None
) -> Survey:
    """Find the cameras, frames and side topics of a bag.

    mapped: cameras of the map, for what the bag does not tell. Raises BagError.
    """
    topics = find_cameras(reader, options.image_topics)
    _require_names(options, topics)
    _require_stamps(reader, topics)
    tree = TfTree(reader, [topic.topic for topic in topics.topics.values()])
    lenses = dict(mapped or {})
    if len(lenses) == len(topics.topics) == 1:
        lenses = dict(zip(topics.topics, lenses.values(), strict=True))
    frame = next(iter(topics.topics.values())).frame
    base_frame = options.base_frame or tree.base_frame(frame)
    cameras: dict[str, Camera] = {}
    intrinsics: dict[str, str] = {}
    mounts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, topic in topics.topics.items():
        mount, source = read_mount(tree, topic, name, options, base_frame, lenses.get(name))
        if mount is None:
            faults[name] = source
        mounts[name] = source if mount is not None else "assumed: at the base, looking ahead"
        cameras[name], intrinsics[name] = read_camera(
            reader,
            topic,
            mount or forward_camera(),
            for_camera(options.camera_infos, name) or "",
            lenses.get(name),
        )
    return Survey(
        topics=topics,
        tree=tree,
        base_frame=base_frame,
        cameras=cameras,
        intrinsics=intrinsics,
        mounts=mounts,
        mount_faults=faults,
        side_topics={use: names[0] for use, names in side_topics(reader).items()},
    )


def side_topics(reader: BagReader) -> dict[str, list[str]]:
    """Find the recorded topics of WEATHER, FIX and ODOM; the first of each is used."""
    odometry = reader.topics_of(messages.ODOMETRY)
    topics = {
        WEATHER: [t for t in reader.topics_of(messages.STRING) if t.endswith("/weather")],
        FIX: reader.topics_of(messages.FIX),
        ODOM: sorted(odometry, key=lambda topic: topic != "/odom"),
    }
    return {name: names for name, names in topics.items() if names}


def _require_names(options: BagOptions, topics: Cameras) -> None:
    """Raise BagError where options name a camera that the bag lacks, or none of several."""
    names = list(topics.topics)
    for option, values in (
        ("--camera-info", options.camera_infos),
        ("--base-from-camera", options.mounts),
    ):
        if strange := set(values) - {"", *names}:
            raise BagError(
                f"{option} names the cameras {', '.join(sorted(strange))}; the bag has "
                f"{', '.join(names)}"
            )
        if "" in values and len(names) > 1:
            raise BagError(f"{option} is of which camera? Say NAME=, of {', '.join(names)}")


def _require_stamps(reader: BagReader, topics: Cameras) -> None:
    """Raise BagError for images without stamps."""
    for topic in topics.topics.values():
        if topic.image is not None and messages.stamp_ns(topic.image) == 0:
            raise BagError(
                f"bag {reader.path}: the images of {topic.topic} have the stamp 0: let the camera "
                "node fill in header.stamp, or take the times of recording, --stamps recorded"
            )
