# SPDX-License-Identifier: Apache-2.0
"""The depth images of a bag, associated with colour images by stamp."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_messages import DEPTH_ENCODINGS, decode_depth_image
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.depth import DEPTH_UNIT
from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import BagError, ImageError
from disam_ros.pose_buffer import NANOSECONDS

logger = logging.getLogger(__name__)
MILLIMETRE = 0.001


def depth_topic(image_topic: str) -> str:
    """The depth topic of an image topic: …/front/image_raw → …/front/depth/image_raw."""
    parent, name = image_topic.removesuffix("/compressed").rsplit("/", 1)
    return f"{parent}/depth/{name}"


class DepthImages:
    """The depth images of a bag by camera; false where it holds none.

    image_topics: camera → colour image topic. topics: camera → depth topic; None takes those that
    `depth_topic` names where the bag has them. max_gap: longest time [s] between the stamps of a
    colour image and its depth image.

    Raises BagError for topics that the bag lacks or whose first image is no depth.
    """

    def __init__(
        self,
        reader: BagReader,
        image_topics: Mapping[str, str],
        topics: Mapping[str, str] | None = None,
        max_gap: float = 0.02,
    ) -> None:
        self._reader, self._max_gap_ns = reader, round(max_gap * NANOSECONDS)
        held = reader.topics_of(messages.IMAGE)
        expected = {camera: depth_topic(topic) for camera, topic in image_topics.items()}
        recorded = {camera: topic for camera, topic in expected.items() if topic in held}
        self.topics = dict(recorded if topics is None else topics)
        if strange := set(self.topics) - set(image_topics):
            raise BagError(
                f"depth topics name the cameras {sorted(strange)}; there are {sorted(image_topics)}"
            )
        encodings = {self._encoding(topic) for topic in self.topics.values()}
        # Metres per step of the stored depth.
        self.unit = MILLIMETRE if encodings == {"16UC1"} else DEPTH_UNIT

    def __bool__(self) -> bool:
        return bool(self.topics)

    def of(
        self, camera: str, records: Sequence[ImageRecord]
    ) -> Iterator[tuple[ImageRecord, NDArray[np.float32]]]:
        """Read the depth, [H, W] metres, of each image; images without any are left out.

        Damaged depth images are left out and counted in the log.
        """
        if camera not in self.topics:
            return
        topic, damaged = self.topics[camera], 0
        stamps = [messages.serialized_stamp_ns(raw.data) for raw in self._reader.raw([topic])]
        chosen = nearest(np.array(stamps, np.int64), records, self._max_gap_ns)
        for index, raw in enumerate(self._reader.raw([topic])):
            if index not in chosen:
                continue
            try:
                depth = decode_depth_image(self._reader.decode(raw))
            except ImageError as error:
                if not damaged:
                    logger.warning("%s at %d ns: %s", topic, raw.stamp_ns, error)
                damaged += 1
                continue
            for record in chosen[index]:
                yield record, depth
        if damaged:
            logger.warning("%s: %d damaged depth images left out", topic, damaged)

    def _encoding(self, topic: str) -> str:
        """The encoding of a topic's first image. Raises BagError unless it is one of depth."""
        kind = self._reader.topics().get(topic)
        if kind is not None and kind.type != messages.IMAGE:
            raise BagError(
                f"bag {self._reader.path}: {topic} is {kind.type}; depth is read from "
                f"{messages.IMAGE}"
            )
        _, first = next(self._reader.messages([topic]), (None, None))
        if first is None:
            raise BagError(f"bag {self._reader.path}: {topic} holds no depth images")
        if first.encoding not in DEPTH_ENCODINGS:
            raise BagError(
                f"bag {self._reader.path}: {topic} has encoding '{first.encoding}'; depth images "
                f"are {' or '.join(DEPTH_ENCODINGS)}. Name another depth topic, or take none"
            )
        return str(first.encoding)


def nearest(
    stamps: NDArray[np.int64], records: Sequence[ImageRecord], max_gap_ns: int
) -> dict[int, list[ImageRecord]]:
    """Associate images with stamps [N] [ns] in any order.

    Returns position in `stamps` → the images to which that stamp is the nearest, within the gap.
    """
    chosen: dict[int, list[ImageRecord]] = {}
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    for record in records:
        after = int(np.searchsorted(ordered, record.stamp_ns))
        around = ordered[max(after - 1, 0) : after + 1]
        if not len(around):
            continue
        best = max(after - 1, 0) + int(np.argmin(np.abs(around - record.stamp_ns)))
        if abs(int(ordered[best]) - record.stamp_ns) <= max_gap_ns:
            chosen.setdefault(int(order[best]), []).append(record)
    return chosen
