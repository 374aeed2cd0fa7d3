# SPDX-License-Identifier: Apache-2.0
"""Where posed images come from: a dataset directory or a bag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from disam_ros import image
from disam_ros.bags.images import BagImages
from disam_ros.dataset import Dataset, DatasetInfo, ImageRecord
from disam_ros.image_messages import decode_image


@dataclass(frozen=True)
class PosedImage:
    """An image that is read only when needed. load: returns uint8 RGB [H, W, 3]."""

    record: ImageRecord
    load: Callable[[], np.ndarray]


@dataclass(frozen=True)
class ImageSource:
    """Posed images in a fixed order. identity: names them, so that a build can be resumed."""

    images: Iterable[PosedImage]
    info: DatasetInfo
    identity: str
    total: int


def open_dataset(directory: Path | str) -> ImageSource:
    """The images of a dataset directory in file order, their paths as source.

    Raises DatasetError.
    """
    dataset = Dataset(directory)
    table = (dataset.directory / "images.csv").read_bytes()
    identity = f"{dataset.info.name} {hashlib.sha256(table).hexdigest()}"
    return ImageSource(_dataset_images(dataset), dataset.info, identity, len(dataset))


def _dataset_images(dataset: Dataset) -> Iterator[PosedImage]:
    for record in dataset.records:
        path = dataset.path(record)
        yield PosedImage(replace(record, source=record.path), lambda path=path: image.read(path))


def open_bag(bag: Path | str, pose_topic: str = "") -> ImageSource:
    """The images of a rosbag2 with poses interpolated to their stamps. Raises BagError."""
    images = BagImages(bag, pose_topic=pose_topic or None)
    path = Path(bag).resolve()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    identity = " ".join(f"{file.name} {file.stat().st_size}" for file in files)
    return ImageSource(_bag_images(images), images.info, f"{identity} {pose_topic}", len(images))


def _bag_images(images: BagImages) -> Iterator[PosedImage]:
    for number, (camera, topic, stamp_ns, message, pose) in enumerate(images):
        record = ImageRecord(number, stamp_ns, camera, "", topic, pose)
        yield PosedImage(record, lambda message=message: decode_image(message))
