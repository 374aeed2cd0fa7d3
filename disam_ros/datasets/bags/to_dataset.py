# SPDX-License-Identifier: Apache-2.0
"""Bag → dataset directory: images with interpolated poses, and depth where it was recorded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from disam_ros.datasets.bags.depth import DepthImages
from disam_ros.datasets.bags.images import BagImage, BagImages, pixels_of
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.dataset import DatasetWriter
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import BagError, ImageError
from disam_ros.files.outputs import require_outside
from disam_ros.image import encode_jpeg, is_jpeg

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagConversion:
    """Counts of a bag's images by outcome; the first is the sum of all but the last."""

    images: int
    kept: int
    without_pose: int
    near_keyframe: int  # too close to the last keyframe of its camera
    damaged: int  # could not be decoded
    repeated: int  # same camera and stamp as an image before
    with_depth: int  # of those kept


def bag_to_dataset(
    bag: Path | str,
    directory: Path | str,
    domain: str,
    *,
    keyframe_distance: float = 0.0,
    keyframe_angle: float = 0.0,
    depth_topics: Mapping[str, str] | None = None,
    max_depth_gap: float = 0.02,
    name: str = "",
    show_progress: bool = True,
    overwrite: bool = False,
    **options: Any,
) -> BagConversion:
    """Write the images of a bag, each with the pose at its stamp, as a dataset directory.

    domain: name given to every image. keyframe_distance (metres), keyframe_angle (degrees): see
    keyframes.py. depth_topics: camera → depth topic; None takes the usual ones (see
    `depth_topic`), an empty mapping none. max_depth_gap: longest time [s] between an image and its
    depth. options: as in `BagImages`; images without a pose are dropped and counted.
    JPEGs are stored as they are. The first valid fix becomes the dataset's place on Earth.

    Raises BagError where the bag lacks images or poses, or where no image can be kept;
    OutputError where `directory` lies in the bag or exists, unless it is a dataset to overwrite.
    """
    require_outside(directory, bag)
    images = BagImages(bag, **options)
    keyframes = KeyframeSelector(keyframe_distance, keyframe_angle)
    bar = tqdm(images, desc="bag", unit="img", disable=not show_progress)
    with BagReader(bag) as reader:
        depths = DepthImages(reader, images.topics, depth_topics, max_depth_gap)
        unit = depths.unit if depths else None
        info = replace(images.info, name=name or images.info.name, depth_unit=unit)
        with DatasetWriter(directory, info, overwrite) as writer:
            kept, counts = _copy(bar, images.bag, keyframes, writer, domain)
            if not kept:
                raise BagError(f"bag {bag}: not one image can be kept: {counts}")
            counts = replace(counts, with_depth=_copy_depth(depths, kept, writer))
    logger.info("%s → %s: %s", bag, directory, counts)
    return counts


def _copy(
    bar: tqdm[BagImage],
    bag: Path,
    keyframes: KeyframeSelector,
    writer: DatasetWriter,
    domain: str,
) -> tuple[list[ImageRecord], BagConversion]:
    counts: Counter[str] = Counter()
    kept: dict[tuple[str, int], ImageRecord] = {}
    for found in bar:
        camera, topic, stamp_ns, _, pose, *_ = found
        counts["images"] += 1
        if pose is None:
            counts["without_pose"] += 1
        elif (camera, stamp_ns) in kept:
            counts["repeated"] += 1
        elif not keyframes.keeps(camera, pose):
            counts["near_keyframe"] += 1
        elif (jpeg := _jpeg_of(found, bag, counts)) is not None:
            record = writer.add(jpeg, stamp_ns, camera, domain, pose, source=topic)
            kept[camera, stamp_ns] = record
            counts["kept"] += 1
    return list(kept.values()), replace(BagConversion(0, 0, 0, 0, 0, 0, 0), **counts)


def _copy_depth(depths: DepthImages, kept: list[ImageRecord], writer: DatasetWriter) -> int:
    """Store depth maps; returns the number of images with one."""
    count = 0
    for camera in depths.topics:
        records = [record for record in kept if record.camera == camera]
        for record, depth in depths.of(camera, records):
            writer.add_depth(record, depth)
            count += 1
    return count


def _jpeg_of(found: BagImage, bag: Path, counts: Counter[str]) -> bytes | None:
    """The image as JPEG bytes; None where it is damaged, which is counted and logged once."""
    try:
        image = pixels_of(found, bag, whole=True)
    except ImageError as error:
        if not counts["damaged"]:
            logger.warning("left out: %s", error)
        counts["damaged"] += 1
        return None
    message = found.message
    if not hasattr(message, "encoding") and is_jpeg(message.data):
        return bytes(message.data)
    return encode_jpeg(image)
