# SPDX-License-Identifier: Apache-2.0
"""Posed images of a dataset directory, a bag or image files, read on access."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.datasets.dataset import Dataset, DatasetInfo, ImageRecord
from disam_ros.datasets.sensor_tables import read_odometry
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform

if TYPE_CHECKING:  # needs rosbags
    from disam_ros.datasets.bags.fixes import FixPoses
    from disam_ros.datasets.bags.images import BagImages
    from disam_ros.datasets.bags.trajectory import GivenTrajectory


@dataclass(frozen=True)
class PosedImage:
    """An image that is read only when needed. load: returns uint8 RGB [H, W, 3].

    weather, place (latitude, longitude [deg]): the last ones recorded before it, if any.
    depth: returns its depth map as Dataset.depth does; None where the source has no depth.
    odometry: number of poses of `ImageSource.odometry` that were recorded before it; None: those
    stamped up to its stamp.
    """

    record: ImageRecord
    load: Callable[[], np.ndarray]
    weather: str | None = None
    place: tuple[float, float] | None = None
    depth: Callable[[], np.ndarray | None] | None = None
    odometry: int | None = None


@dataclass(frozen=True)
class ImageSource:
    """Posed images in a fixed order, which may be iterated several times.

    identity: identifies them, so that a build can be resumed. track: stamps (int64 [N], strictly
    increasing) and `map_from_base` of the drive, where recorded apart from the images. odometry:
    stamps int64 [N] and `odom_from_base` as recorded. fault: why no poses are known; empty where
    they are.
    """

    images: Iterable[PosedImage]
    info: DatasetInfo
    identity: str
    total: int
    track: tuple[np.ndarray, list[Transform]] | None = None
    fault: str = ""
    odometry: tuple[np.ndarray, list[Transform]] | None = None


def open_images(
    path: Path | str,
    map_frame: str,
    pose_topic: str = "",
    mapped: Mapping[str, Camera] | None = None,
) -> ImageSource:
    """The images of a dataset directory or of a rosbag2, posed or not.

    Poses in another frame than `map_frame` count as unknown. mapped: the map's cameras, for
    intrinsics and extrinsics that a bag lacks. Raises DatasetError or BagError.
    """
    if not Path(path).exists():
        raise DatasetError(f"{path} not found: expected a dataset directory or a rosbag2")
    if (Path(path) / "dataset.json").exists():
        source = open_dataset(path)
        given = source.info.map_frame
        if given == map_frame:
            return source
        fault = f"{path}: poses are given in frame '{given}', expected '{map_frame}'"
        return replace(source, images=_Unposed(source.images), fault=fault)
    from disam_ros.datasets.bags.images import BagImages

    images = BagImages(
        path,
        pose_topic=pose_topic or None,
        mapped=mapped,
        map_frame=map_frame,
        require_poses=False,
    )
    return _bag_source(path, images, pose_topic)


def open_files(paths: Sequence[Path | str], camera: str = "") -> ImageSource:
    """Image files without stamp (0: unknown) and pose."""
    records = [ImageRecord(i, 0, camera, "", str(p), None, str(p)) for i, p in enumerate(paths)]
    images = [PosedImage(record, partial(image.read, record.path)) for record in records]
    return ImageSource(images, DatasetInfo("files", {}), "", len(images))


def open_dataset(directory: Path | str) -> ImageSource:
    """The images of a dataset directory in file order, their paths as source.

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
    pose_topic: str = "",
    trajectory: GivenTrajectory | FixPoses | None = None,
    max_pose_gap: float = 0.5,
) -> ImageSource:
    """The images of a rosbag2 with poses, of a topic, a trajectory or fixes, interpolated to their
    stamps where two are at most `max_pose_gap` seconds apart. Raises BagError, DatasetError."""
    from disam_ros.datasets.bags.images import BagImages

    images = BagImages(
        bag, pose_topic=pose_topic or None, trajectory=trajectory, max_pose_gap=max_pose_gap
    )
    poses = pose_topic if trajectory is None else f"{trajectory.identity} {max_pose_gap}"
    return _bag_source(bag, images, poses)


def _bag_source(bag: Path | str, images: BagImages, pose_topic: str) -> ImageSource:
    path = Path(bag).resolve()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    identity = " ".join(f"{file.name} {file.stat().st_size}" for file in files)
    return ImageSource(
        _BagSequence(images),
        images.info,
        f"{identity} {pose_topic}",
        len(images),
        (images.track.stamps_ns, images.track.poses),
        images.pose_fault,
        images.odometry,
    )


class _BagSequence:
    """Reads the bag again in every iteration."""

    def __init__(self, images: BagImages) -> None:
        self._images = images

    def __iter__(self) -> Iterator[PosedImage]:
        from disam_ros.datasets.bags.images import pixels_of

        for number, found in enumerate(self._images):
            record = ImageRecord(
                number, found.stamp_ns, found.camera, "", found.topic, found.map_from_camera
            )
            yield PosedImage(
                record,
                partial(pixels_of, found, self._images.bag),
                found.weather,
                found.place,
                odometry=found.odometry,
            )


class _Unposed:
    """The same images without their poses."""

    def __init__(self, images: Iterable[PosedImage]) -> None:
        self._images = images

    def __iter__(self) -> Iterator[PosedImage]:
        for item in self._images:
            yield replace(item, record=replace(item.record, map_from_camera=None))
