# SPDX-License-Identifier: Apache-2.0
"""Posed images of a dataset directory, a bag or image files, read on access."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.datasets.dataset import Dataset, DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sensor_tables import read_odometry
from disam_ros.errors import DatasetError
from disam_ros.pose_buffer import Track

if TYPE_CHECKING:  # needs rosbags
    from disam_ros.datasets.bags.images import BagImage, BagImages
    from disam_ros.datasets.bags.options import BagOptions
    from disam_ros.datasets.bags.pose_sources import PoseSource

T = TypeVar("T")


@dataclass(frozen=True)
class PosedImage:
    """An image that is read only when needed."""

    record: ImageRecord
    load: Callable[[], NDArray[np.uint8]]  # returns RGB [H, W, 3]
    weather: str | None = None  # the last word recorded before it
    place: tuple[float, float] | None = None  # last known latitude and longitude [deg]
    depth: Callable[[], NDArray[np.float32] | None] | None = None  # as `Dataset.depth`
    # Number of poses of `ImageSource.odometry` that were recorded before it; None: those stamped
    # up to its stamp.
    odometry: int | None = None


@dataclass(frozen=True)
class ImageSource:
    """Posed images in a fixed order."""

    images: Iterable[PosedImage]  # may be iterated several times; their ids differ
    info: DatasetInfo
    identity: str  # identifies the images, so that a build can be resumed
    total: int  # number of images
    track: Track | None = None  # map_from_base, where recorded apart from the images
    fault: str = ""  # why no poses are known; empty: they are
    odometry: Track | None = None  # odom_from_base as recorded

    def map(self, function: Callable[[PosedImage], PosedImage | None]) -> ImageSource:
        """Return the source with a function applied to each image; None leaves an image out."""
        return replace(self, images=_Mapped(function, self.images))


class _Mapped(Generic[T]):
    """Items with a function applied to each, in every iteration; None leaves an item out."""

    def __init__(self, function: Callable[[T], PosedImage | None], items: Iterable[T]) -> None:
        self._function, self._items = function, items

    def __iter__(self) -> Iterator[PosedImage]:
        return (item for item in map(self._function, self._items) if item is not None)


def open_images(
    path: Path | str,
    map_frame: str,
    pose_topic: str = "",
    mapped: Mapping[str, Camera] | None = None,
    options: BagOptions | None = None,
) -> ImageSource:
    """Open a dataset directory or a bag whose images may have no poses.

    Poses in another frame than `map_frame` count as unknown. mapped: the map's cameras, for
    intrinsics and extrinsics that a bag lacks. options: what a user says of a bag. Raises
    DatasetError or BagError.
    """
    if not Path(path).exists():
        raise DatasetError(f"{path} not found: expected a dataset directory or a rosbag2")
    if (Path(path) / "dataset.json").exists():
        source = open_dataset(path)
        frame = source.info.map_frame
        if frame == map_frame:
            return source
        fault = f"{path}: poses are given in frame '{frame}', expected '{map_frame}'"
        return replace(source, fault=fault).map(_unposed)
    from disam_ros.datasets.bags.images import BagImages
    from disam_ros.datasets.bags.options import BagOptions
    from disam_ros.datasets.bags.pose_sources import TopicPoses

    options = options or BagOptions()
    options = replace(options, map_frame=options.map_frame or map_frame)
    poses = TopicPoses(pose_topic, required=False)
    source = _bag_source(BagImages(path, options, poses=poses, mapped=mapped), pose_topic)
    return replace(source, info=replace(source.info, map_frame=map_frame))


def _unposed(item: PosedImage) -> PosedImage:
    """An image without its pose."""
    return replace(item, record=replace(item.record, map_from_camera=None))


def open_files(paths: Sequence[Path | str], camera: str = "") -> ImageSource:
    """Open image files, which have no stamp and no pose."""
    images = [
        PosedImage(
            ImageRecord(
                id=number,
                stamp_ns=0,
                camera=camera,
                domain="",
                source=str(path),
                map_from_camera=None,
                path=str(path),
            ),
            partial(image.read, path, upright=True),
        )
        for number, path in enumerate(paths)
    ]
    return ImageSource(images, DatasetInfo("files", {}), "", len(images))


def open_dataset(directory: Path | str) -> ImageSource:
    """Open the images of a dataset directory, in file order, their paths as source.

    Raises DatasetError.
    """
    dataset = Dataset(directory)
    table = (dataset.directory / "images.csv").read_bytes()
    identity = f"{dataset.info.name} {hashlib.sha256(table).hexdigest()}"
    latitude, longitude = dataset.info.latitude, dataset.info.longitude
    place = None if latitude is None or longitude is None else (latitude, longitude)
    images = [
        PosedImage(
            replace(record, source=record.path),
            partial(image.read, dataset.path(record)),
            place=place,
            depth=partial(dataset.depth, record),
        )
        for record in dataset.records
    ]
    odometry = read_odometry(dataset.directory)
    return ImageSource(images, dataset.info, identity, len(dataset), odometry=odometry)


def open_bag(
    bag: Path | str,
    poses: PoseSource | None = None,
    max_pose_gap: float = 0.5,
    options: BagOptions | None = None,
) -> ImageSource:
    """Open a bag whose images have poses, interpolated to their stamps, to map them.

    poses: their source; None: the best topic. max_pose_gap: time [s] between two poses beyond which
    none is interpolated. options: what a user says of the bag. Raises BagError, also for cameras
    whose extrinsics nobody knows, and DatasetError.
    """
    from disam_ros.datasets.bags.images import BagImages

    images = BagImages(bag, options, poses=poses, max_pose_gap=max_pose_gap, mounted=True)
    return _bag_source(images, f"{poses.identity if poses else ''} {max_pose_gap}")


def _bag_source(images: BagImages, poses: str) -> ImageSource:
    """The source of a bag's images. poses: a text that identifies their poses."""
    path = images.bag.resolve()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    identity = " ".join(f"{file.name} {file.stat().st_size}" for file in files)
    identity += images.options.identity
    return ImageSource(
        _Mapped(partial(_posed, images.bag), images),
        images.info,
        f"{identity} {poses}",
        len(images),
        images.track.track,
        images.pose_fault,
        images.odometry,
    )


def _posed(bag: Path, item: BagImage) -> PosedImage:
    """An image of a bag."""
    from disam_ros.datasets.bags.images import pixels_of

    return PosedImage(
        ImageRecord(
            id=item.number,
            stamp_ns=item.stamp_ns,
            camera=item.camera,
            domain="",
            source=item.topic,
            map_from_camera=item.map_from_camera,
        ),
        partial(pixels_of, item, bag),
        item.weather,
        item.place,
        odometry=item.odometry,
    )
