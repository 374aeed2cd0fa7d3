# SPDX-License-Identifier: Apache-2.0
"""Dataset directory → bag with the topics of a recorded drive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sensor_tables import (
    FIX_COLUMNS,
    FIX_FILE,
    ODOM_COLUMNS,
    ODOM_FILE,
    read_table,
)
from disam_ros.datasets.text_rows import located
from disam_ros.errors import BagError, DatasetError, ImageError
from disam_ros.files.outputs import require_outside
from disam_ros.files.reading import read_bytes
from disam_ros.geometry import Transform
from disam_ros.image import MAX_BYTES, check_file, decode
from disam_ros.pose_buffer import NANOSECONDS

logger = logging.getLogger(__name__)

MARGIN_NS = NANOSECONDS  # odometry and fixes this long before and after the images are kept
WEATHER_PERIOD_NS = NANOSECONDS

Event = tuple[int, Callable[[], None]]  # a stamp, and a function that writes its messages


def dataset_to_bag(
    dataset: Dataset | Path | str,
    bag: Path | str,
    storage: str = "mcap",
    *,
    domain: str | None = None,
    weather: str | None = None,
    raw: bool = False,
    show_progress: bool = True,
    overwrite: bool = False,
) -> int:
    """Write a dataset as a rosbag2 recording; returns the number of images in it.

    Images that are empty or damaged are left out, with a warning each.

    domain: the drive to take; needed where the dataset holds several. weather: word sent once a
    second. raw: images as sensor_msgs/Image rather than as the stored JPEGs. Odometry, fixes and
    depth maps go into the bag where the dataset holds them.

    Raises BagError (several domains, nothing to write), DatasetError (damaged table, missing file),
    OutputError (`bag` exists or lies in the dataset).
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    require_outside(bag, dataset.directory)
    records = _one_domain(dataset, domain)
    first, last = records[0].stamp_ns, records[-1].stamp_ns
    span = (first - MARGIN_NS, last + MARGIN_NS)
    odom = _table(dataset.directory / ODOM_FILE, ODOM_COLUMNS, span)
    fixes = _table(dataset.directory / FIX_FILE, FIX_COLUMNS, span)
    cameras = dataset.info.cameras
    frame = dataset.info.map_frame
    damaged: list[ImageRecord] = []
    with BagWriter(bag, storage, map_frame=frame, overwrite=overwrite) as writer:
        start = min([first, *(stamps[0] for stamps, _ in (odom, fixes) if len(stamps))])
        writer.tf_static(int(start), {n: c.base_from_camera for n, c in cameras.items()})
        events = [
            *_odom_events(writer, *odom),
            *_fix_events(writer, *fixes),
            *_weather_events(writer, weather, first, last),
            *_pose_events(writer, dataset, records),
            *_image_events(writer, dataset, records, raw, damaged),
        ]
        events.sort(key=lambda event: event[0])
        for _, write in tqdm(events, desc="bag", unit="msg", disable=not show_progress):
            write()
        if len(damaged) == len(records):
            raise BagError(f"{dataset.directory}: none of {len(records)} images can be read")
    if damaged:
        logger.warning("%d of %d images are left out: damaged", len(damaged), len(records))
    return len(records) - len(damaged)


def _one_domain(dataset: Dataset, domain: str | None) -> list[ImageRecord]:
    """Return the records of one domain in time order. Raises BagError or DatasetError."""
    names = dataset.domains()
    if domain is None and len(names) > 1:
        raise BagError(f"{dataset.directory} holds several drives; choose one of {names}")
    if domain is not None and domain not in names:
        raise BagError(f"{dataset.directory} has no domain '{domain}'; it holds {names}")
    records = [r for r in dataset.records if domain in (None, r.domain)]
    if not records:
        raise BagError(f"{dataset.directory} holds no images")
    unknown = {r.camera for r in records} - set(dataset.info.cameras)
    if unknown:
        raise DatasetError(f"{dataset.directory}: dataset.json lacks the cameras {sorted(unknown)}")
    return sorted(records, key=lambda r: r.stamp_ns)


def _image_events(
    writer: BagWriter,
    dataset: Dataset,
    records: list[ImageRecord],
    raw: bool,
    damaged: list[ImageRecord],
) -> Iterator[Event]:
    """Events of images with their depth. damaged: images that are left out are appended."""

    def write(record: ImageRecord) -> None:
        path = dataset.path(record)
        jpeg = read_bytes(path, DatasetError, MAX_BYTES)
        try:
            check_file(jpeg, str(path))
            pixels = decode(jpeg, str(path), whole=True) if raw else None
        except ImageError as error:
            logger.warning("skipped: %s", error)
            damaged.append(record)
            return
        depth = dataset.depth(record)
        camera = dataset.info.cameras[record.camera]
        writer.camera_info(record.camera, record.stamp_ns, camera)
        if pixels is not None:
            writer.raw_image(record.camera, record.stamp_ns, pixels)
        else:
            writer.compressed_image(record.camera, record.stamp_ns, jpeg)
        if depth is not None:
            writer.depth_image(record.camera, record.stamp_ns, depth)

    for record in records:
        yield record.stamp_ns, partial(write, record)


def _pose_events(
    writer: BagWriter, dataset: Dataset, records: list[ImageRecord]
) -> Iterator[Event]:
    """Events of map_from_base, one per stamp: cameras that fire together share the base pose."""
    done: set[int] = set()
    for record in records:
        if record.map_from_camera is None or record.stamp_ns in done:
            continue
        done.add(record.stamp_ns)
        base_from_camera = dataset.info.cameras[record.camera].base_from_camera
        map_from_base = record.map_from_camera @ base_from_camera.inverse()
        yield record.stamp_ns, partial(writer.ground_truth, record.stamp_ns, map_from_base)


def _odom_events(
    writer: BagWriter, stamps: NDArray[np.int64], values: NDArray[np.float64]
) -> Iterator[Event]:
    """Events of odometry. Raises DatasetError."""
    for stamp, row in zip(stamps.tolist(), values, strict=True):
        with located(f"odometry at {stamp} ns"):
            odom_from_base = Transform(row[:3], row[3:7])
        yield stamp, partial(writer.odom, stamp, odom_from_base, *row[7:])


def _fix_events(
    writer: BagWriter, stamps: NDArray[np.int64], values: NDArray[np.float64]
) -> Iterator[Event]:
    """Events of satellite fixes."""
    for stamp, row in zip(stamps.tolist(), values, strict=True):
        yield stamp, partial(writer.fix, stamp, *row)


def _weather_events(
    writer: BagWriter, weather: str | None, first: int, last: int
) -> Iterator[Event]:
    """Events of a weather word, if any."""
    if weather:
        for stamp in range(first, last + 1, WEATHER_PERIOD_NS):
            yield stamp, partial(writer.weather, stamp, weather)


def _table(
    file: Path, columns: Sequence[str], span: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read a table (`read_table`) inside `span`; empty where there is no file."""
    if not file.exists():
        return np.zeros(0, dtype=np.int64), np.zeros((0, len(columns) - 1))
    stamps, values = read_table(file, columns)
    inside = (stamps >= span[0]) & (stamps <= span[1])
    return stamps[inside], values[inside]
