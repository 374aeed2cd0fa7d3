# SPDX-License-Identifier: Apache-2.0
"""Query sequences with ground truth and their maps: town, Gardens Point, Nordland."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.accuracy import gardens_point, nordland
from benchmark.accuracy.drives import NOTHING, SIFT, XFEAT, Maps, maps_of, town_drives
from benchmark.truth import bases
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import ImageSource, PosedImage, open_dataset, open_images
from disam_ros.demo.drives import MODEL, REFERENCE
from disam_ros.geometry import Transform
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.models.model import load_model
from disam_ros.pose_buffer import NANOSECONDS
from season_town import CONDITIONS

RIGHT_M = 5.0  # in the town
PACE = 2.0  # largest speed without odometry, in frames an image


@dataclass(frozen=True)
class Ride:
    """A sequence of queries."""

    name: str
    items: Sequence[PosedImage]  # in order
    truth: list[Transform]  # map_from_base
    odometry: OdometryTrack
    domain: str | None  # of the queries; None: the chooser's
    right: float  # largest error of a right answer [m]
    max_speed: float  # of the vehicle [m/s]


def town(
    scratch: Path, kinds: Sequence[str] = (NOTHING, SIFT, XFEAT)
) -> Iterator[tuple[Maps, Ride]]:
    """The demo's town under every condition that can be had."""
    maps = maps_of(open_dataset(REFERENCE), MODEL, scratch / "town", kinds)
    for condition, path in town_drives():
        source = open_images(path, "map")
        items = [_placed(item, source) for item in source.images if item.record.map_from_camera]
        weather = CONDITIONS[condition].weather
        items = [item if item.weather else replace(item, weather=weather) for item in items]
        truth = bases((item.record for item in items), source.info.cameras["front"])
        assert source.odometry is not None  # every drive of the town has it
        track = OdometryTrack.of(*source.odometry, NANOSECONDS)
        speed = LocalizerConfig().max_speed
        yield maps, Ride(f"town, {condition}", items, truth, track, None, RIGHT_M, speed)


def gardens(scratch: Path) -> Iterator[tuple[Maps, Ride]]:
    """Gardens Point."""
    directory = gardens_point.SHIPPED / "outdoor"
    model = load_model(directory)
    for map_drive, names in gardens_point.QUERIES.items():
        domain = gardens_point.domain_of(model, map_drive)
        files = gardens_point.DATA / map_drive
        reference = gardens_point.aligned_dataset(files, scratch / map_drive, domain)
        source = gardens_point.without_intrinsics(open_dataset(reference.directory))
        maps = maps_of(source, directory, scratch / f"map_{map_drive}")
        for name in names:
            domain = gardens_point.domain_of(model, name)
            folder = scratch / f"{map_drive}_{name}"
            queries = gardens_point.aligned_dataset(gardens_point.DATA / name, folder, domain)
            items = list(open_dataset(queries.directory).images)
            pair = f"Gardens Point, {map_drive} → {name}"
            yield maps, _aligned(pair, items, domain, gardens_point.TOLERANCE)


def train(scratch: Path) -> Iterator[tuple[Maps, Ride]]:
    """Nordland."""
    summer, winter = nordland.read(nordland.DATA)
    map_domain, query_domain = next(iter(nordland.ROWS.values()))
    source = gardens_point.without_intrinsics(nordland.source(summer, map_domain))
    maps = maps_of(source, MODEL, scratch / "nordland", (NOTHING, SIFT))
    items = list(nordland.source(winter, query_domain).images)
    yield maps, _aligned("Nordland, summer → winter", items, query_domain, nordland.TOLERANCE)


def _aligned(name: str, items: Iterable[PosedImage], domain: str, tolerance: int) -> Ride:
    """Image i at x = i metres, one a second."""
    timed = [
        replace(item, record=replace(item.record, stamp_ns=(i + 1) * NANOSECONDS))
        for i, item in enumerate(items)
    ]
    truth = [Transform.from_xyz_rpy([float(i), 0, 0, 0, 0, 0]) for i in range(len(timed))]
    stamps = np.array([item.record.stamp_ns for item in timed])
    track = OdometryTrack.of(stamps, truth, NANOSECONDS)
    return Ride(name, timed, truth, track, domain, tolerance + 0.5, PACE)


def _placed(item: PosedImage, source: ImageSource) -> PosedImage:
    latitude, longitude = source.info.latitude, source.info.longitude
    if item.place or latitude is None or longitude is None:
        return item
    return replace(item, place=(latitude, longitude))
