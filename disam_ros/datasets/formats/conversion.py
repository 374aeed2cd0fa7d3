# SPDX-License-Identifier: Apache-2.0
"""A foreign data set → dataset directory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.datasets.counts import in_words, warn_of_losses
from disam_ros.datasets.dataset import DatasetWriter
from disam_ros.datasets.formats.foreign import ForeignDataset, ForeignImage
from disam_ros.errors import DatasetError, ImageError
from disam_ros.files.reading import read_bytes
from disam_ros.image import encode_jpeg, is_jpeg

logger = logging.getLogger(__name__)
LOST = "Look for whole files where the model or the list expects them, and for poses at all times"


@dataclass(frozen=True)
class Conversion:
    """Counts of images by outcome; None: it cannot be in this format."""

    images: int  # the sum of the following but the last
    kept: int
    damaged: int  # could not be read or decoded
    missing: int | None  # have a pose but no file
    off_trajectory: int | None  # without a pose, in a format that keeps none of these
    near_keyframe: int | None  # too close to the last keyframe
    without_pose: int  # among those kept


def write_dataset(
    foreign: ForeignDataset,
    directory: Path | str,
    domains: Sequence[str] = (),
    overwrite: bool = False,
) -> Conversion:
    """Write a foreign data set as a dataset directory, JPEGs as they are, others as JPEG.

    domains: keep only these; empty: all. Images without a pose are kept without one.

    Raises DatasetError where a domain is unknown, where an image is not of its camera's size, where
    no image can be kept; OutputError where `directory` exists, unless it is a dataset to overwrite.
    """
    unknown = set(domains) - set(foreign.domains())
    if unknown:
        raise DatasetError(
            f"{foreign.directory} holds no images of {', '.join(sorted(unknown))}, only of "
            f"{', '.join(foreign.domains())}"
        )
    images = [item for item in foreign.images if not domains or item.domain in domains]
    counts: Counter[str] = Counter(images=len(images) + sum(foreign.left_out.values()))
    counts.update(foreign.left_out)
    with DatasetWriter(directory, foreign.info, overwrite) as writer:
        for item in tqdm(images, desc="convert", unit="img"):
            jpeg = _jpeg_of(foreign, item)
            counts["kept" if jpeg else "damaged"] += 1
            if jpeg:
                counts["without_pose"] += item.map_from_camera is None
                writer.add(
                    jpeg,
                    item.stamp_ns,
                    item.camera,
                    item.domain,
                    item.map_from_camera,
                    item.source,
                )
        if not counts["kept"]:
            raise DatasetError(
                f"{foreign.directory}: not one of {counts['images']} images can be kept"
            )
    result = replace(Conversion(0, 0, 0, None, None, None, 0), **counts)
    lost = counts["damaged"] + counts["missing"] + counts["off_trajectory"]
    warn_of_losses(foreign.directory, lost, result.images, f"{in_words(result)}. {LOST}")
    return result


def _jpeg_of(foreign: ForeignDataset, item: ForeignImage) -> bytes | None:
    """Read an image as JPEG bytes; None, and a warning, where it is damaged."""
    camera = foreign.info.cameras[item.camera]
    try:
        if foreign.pixels is not None:
            return encode_jpeg(foreign.pixels(item))
        return _read_jpeg(foreign.directory / item.source, item, camera)
    except ImageError as error:
        logger.warning("left out: %s", error)
        return None


def _read_jpeg(path: Path, item: ForeignImage, camera: Camera) -> bytes:
    """Read an image file as JPEG bytes. Raises ImageError where it is damaged."""
    data = read_bytes(path, ImageError, image.MAX_BYTES)
    picture = image.decode(data, str(path), whole=True, upright=item.upright)
    size, expected = picture.shape[1::-1], (camera.width, camera.height)
    if size != (item.size or expected):
        width, height = item.size or expected
        raise DatasetError(
            f"{path} has {size[0]}x{size[1]} pixels, its camera {width}x{height}; "
            "intrinsics hold for one size: use the images as published"
        )
    if size != expected:
        return encode_jpeg(image.resized(picture, expected))
    return data if is_jpeg(data) and not item.upright else encode_jpeg(picture)
