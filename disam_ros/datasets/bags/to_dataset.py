# SPDX-License-Identifier: Apache-2.0
"""Bag → dataset directory: images with interpolated poses, and depth where it was recorded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from disam_ros.datasets.bags.depth import DepthImages
from disam_ros.datasets.bags.images import BagImage, BagImages, pixels_of
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.counts import in_words, warn_of_losses
from disam_ros.datasets.dataset import DatasetWriter
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import BagError, ImageError
from disam_ros.files.outputs import require_outside
from disam_ros.image import encode_jpeg, is_jpeg

logger = logging.getLogger(__name__)
LOST = (
    "Images between poses far apart are kept with --max-pose-gap SECONDS, with other poses by "
    "--pose-topic or --trajectory; disam doctor BAG lists what the bag holds"
)


@dataclass(frozen=True)
class BagConversion:
    """Counts of a bag's images by outcome."""

    images: int  # the sum of the following but the last
    kept: int
    without_pose: int
    near_keyframe: int  # too close to the last keyframe of its camera
    damaged: int  # could not be decoded
    repeated: int  # same camera and stamp as an image before
    with_depth: int  # of those kept


@dataclass(frozen=True)
class Extraction:
    """Settings of the dataset that is made of a bag."""

    domain: str  # of every image
    keyframe_distance: float = 0.0  # [m] to the last image kept of a camera (keyframes.py)
    keyframe_angle: float = 0.0  # [deg]
    depth_topics: Mapping[str, str] | None = None  # by camera; None: the usual ones (`depth_topic`)
    max_depth_gap: float = 0.02  # longest time between an image and its depth [s]
    name: str = ""  # of the dataset; empty: the bag's


def bag_to_dataset(
    images: BagImages,
    directory: Path | str,
    extraction: Extraction,
    *,
    show_progress: bool = True,
    overwrite: bool = False,
) -> BagConversion:
    """Write the images of a bag, each with the pose at its stamp, as a dataset directory.

    Images without a pose are dropped and counted. JPEGs are stored as they are. The first valid fix
    becomes the dataset's place on Earth.

    Raises BagError where no image can be kept, OutputError where `directory` lies in the bag or
    exists, unless it is a dataset to overwrite.
    """
    bag = images.bag
    require_outside(directory, bag)
    keyframes = KeyframeSelector(extraction.keyframe_distance, extraction.keyframe_angle)
    bar = tqdm(images, desc="bag", unit="img", disable=not show_progress)
    with BagReader(bag) as reader:
        depths = DepthImages(
            reader, images.topics, extraction.depth_topics, extraction.max_depth_gap
        )
        name, unit = extraction.name or images.info.name, depths.unit if depths else None
        info = replace(images.info, name=name, depth_unit=unit)
        with DatasetWriter(directory, info, overwrite) as writer:
            kept, counts = _copy(bar, bag, keyframes, writer, extraction.domain)
            if not kept:
                raise BagError(f"bag {bag}: not one image can be kept: {in_words(counts)}. {LOST}")
            counts = replace(counts, with_depth=_copy_depth(depths, kept, writer))
    lost = counts.without_pose + counts.damaged
    warn_of_losses(bag, lost, counts.images, f"{in_words(counts)}. {LOST}")
    return counts


def _copy(
    bar: tqdm[BagImage],
    bag: Path,
    keyframes: KeyframeSelector,
    writer: DatasetWriter,
    domain: str,
) -> tuple[list[ImageRecord], BagConversion]:
    """Copy images; returns the records that were kept and the counts."""
    counts: Counter[str] = Counter()
    kept: dict[tuple[str, int], ImageRecord] = {}
    for item in bar:
        camera, stamp_ns, pose = item.camera, item.stamp_ns, item.map_from_camera
        counts["images"] += 1
        if pose is None:
            counts["without_pose"] += 1
        elif (camera, stamp_ns) in kept:
            counts["repeated"] += 1
        elif not keyframes.keeps(camera, pose):
            counts["near_keyframe"] += 1
        elif (jpeg := _jpeg_of(item, bag, counts)) is not None:
            record = writer.add(jpeg, stamp_ns, camera, domain, pose, source=item.topic)
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


def _jpeg_of(item: BagImage, bag: Path, counts: Counter[str]) -> bytes | None:
    """The image as JPEG bytes; None where it is damaged, which is counted and logged once."""
    try:
        image = pixels_of(item, bag, whole=True)
    except ImageError as error:
        if not counts["damaged"]:
            logger.warning("left out: %s", error)
        counts["damaged"] += 1
        return None
    message = item.message
    if not hasattr(message, "encoding") and is_jpeg(message.data):
        return bytes(message.data)
    return encode_jpeg(image)
