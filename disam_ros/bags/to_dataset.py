# SPDX-License-Identifier: Apache-2.0
"""Bag → dataset directory: images with interpolated poses."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from disam_ros.bags.images import BagImage, BagImages
from disam_ros.dataset import DatasetWriter
from disam_ros.errors import BagError, ImageError
from disam_ros.image_messages import decode_image, encode_jpeg, is_jpeg
from disam_ros.keyframes import KeyframeSelector

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagConversion:
    """What became of the images of a bag; the first number is the sum of the others."""

    images: int
    kept: int
    without_pose: int
    near_keyframe: int  # too near the last kept image of its camera
    damaged: int  # could not be decoded
    repeated: int  # same camera and stamp as an image before


def bag_to_dataset(
    bag: Path | str,
    directory: Path | str,
    domain: str,
    *,
    keyframe_distance: float = 0.0,
    keyframe_angle: float = 0.0,
    name: str = "",
    show_progress: bool = True,
    **options: Any,
) -> BagConversion:
    """Write the images of a bag, each with the pose at its stamp, as a dataset directory.

    domain: name given to every image. keyframe_distance (metres), keyframe_angle (degrees): see
    keyframes.py. options: as in `BagImages`; images without a pose are dropped and counted.
    JPEGs are stored as they are. The first valid fix becomes the dataset's place on Earth.

    Raises BagError where the bag lacks images or poses, or where no image can be kept;
    DatasetError where `directory` already holds a dataset.
    """
    images = BagImages(bag, **options)
    info = replace(images.info, name=name or images.info.name)
    keyframes = KeyframeSelector(keyframe_distance, keyframe_angle)
    bar = tqdm(images, desc="bag", unit="img", disable=not show_progress)
    with DatasetWriter(directory, info) as writer:
        counts = _copy(bar, keyframes, writer, domain)
        if not counts.kept:
            raise BagError(f"bag {bag}: not one image can be kept: {counts}")
    logger.info("%s → %s: %s", bag, directory, counts)
    return counts


def _copy(
    images: tqdm[BagImage], keyframes: KeyframeSelector, writer: DatasetWriter, domain: str
) -> BagConversion:
    counts: Counter[str] = Counter()
    written: set[tuple[str, int]] = set()
    for camera, topic, stamp_ns, message, pose, *_ in images:
        counts["images"] += 1
        if pose is None:
            counts["without_pose"] += 1
        elif (camera, stamp_ns) in written:
            counts["repeated"] += 1
        elif not keyframes.keeps(camera, pose):
            counts["near_keyframe"] += 1
        elif (jpeg := _jpeg_of(message, topic, stamp_ns, counts)) is not None:
            writer.add(jpeg, stamp_ns, camera, domain, pose, source=topic)
            written.add((camera, stamp_ns))
            counts["kept"] += 1
    return replace(BagConversion(0, 0, 0, 0, 0, 0), **counts)


def _jpeg_of(message: Any, topic: str, stamp_ns: int, counts: Counter[str]) -> bytes | None:
    """The image as JPEG bytes; None where it is damaged, which is counted and logged once."""
    try:
        image = decode_image(message)
    except ImageError as error:
        if not counts["damaged"]:
            logger.warning("%s at %d ns: %s", topic, stamp_ns, error)
        counts["damaged"] += 1
        return None
    if not hasattr(message, "encoding") and is_jpeg(message.data):
        return bytes(message.data)
    return encode_jpeg(image)
