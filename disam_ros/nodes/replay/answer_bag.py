# SPDX-License-Identifier: Apache-2.0
"""Writes a bag of a localizer's answers to a drive, with ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.bit_depth import BitDepth
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.images import read_bit_depth
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import ImageError
from disam_ros.geometry import Transform
from disam_ros.image import encode_jpeg
from disam_ros.nodes.replay.bag_topics import BagTopics
from disam_ros.nodes.replay.node_run import NodeRun


def write_answer_bag(
    writer: BagWriter,
    run: NodeRun,
    route: list[Transform],
    source: ImageSource,
    bag: Path | str,
    topics: BagTopics,
) -> None:
    """Writes the map's route, ground truth where known, the node's messages, and the images.

    route: map_from_base. source: of the ground truth; cameras as in the map. bag, topics:
    what was played. Compressed images keep their bytes, others become JPEGs. Log
    times are the stamps of the headers. Raises BagError.
    """
    sent = {stamp_ns for stamp_ns in run.sent if stamp_ns}
    if sent:
        writer.route(min(sent), route)
        for stamp_ns, map_from_base in _truth(source, max(sent)):
            writer.ground_truth(stamp_ns, map_from_base)
    for raw in run.messages:
        writer.write_serialized(raw.topic, raw.type, raw.data, raw.stamp_ns, messages.RELIABLE_QOS)
    _copy_images(writer, bag, topics, sent)


def _truth(source: ImageSource, last_ns: int) -> Iterator[tuple[int, Transform]]:
    """Yields stamps [ns] and map_from_base up to a stamp: the whole track, else the images."""
    if source.track is not None and len(source.track.stamps):
        poses = zip(source.track.stamps.tolist(), source.track.poses, strict=True)
        yield from ((stamp_ns, pose) for stamp_ns, pose in poses if stamp_ns <= last_ns)
        return
    for item in source.images:
        record = item.record
        if record.map_from_camera is not None and 0 < record.stamp_ns <= last_ns:
            camera_from_base = source.info.cameras[record.camera].base_from_camera.inverse()
            yield record.stamp_ns, record.map_from_camera @ camera_from_base


def _copy_images(
    writer: BagWriter, bag: Path | str, topics: BagTopics, stamps_ns: set[int]
) -> None:
    """Copies the images with these stamps, under the camera's name in the map."""
    topic = f"/camera/{topics.mapped}/image_raw/compressed"
    with BagReader(bag) as reader:
        bit_depth = read_bit_depth(reader, topics.image, BitDepth(topics.mapped))
        for raw in reader.raw([topics.image]):
            stamp_ns = messages.serialized_stamp_ns(raw.data)
            if stamp_ns not in stamps_ns:
                continue
            if raw.type == messages.COMPRESSED_IMAGE:
                qos = messages.SENSOR_QOS
                writer.write_serialized(topic, raw.type, raw.data, stamp_ns, qos)
                continue
            try:
                jpeg = encode_jpeg(decode_image(reader.decode(raw), bit_depth=bit_depth))
            except ImageError:  # the answer says so
                continue
            writer.compressed_image(topics.mapped, stamp_ns, jpeg)
