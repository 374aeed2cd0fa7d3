# SPDX-License-Identifier: Apache-2.0
"""What "known" is worth: images on the map and off it, alone and as drives that leave and enter it.

* San Francisco's streets (sf_years), single images: maps of half of the city up to 2014, queries
  from 2017 on; those of the other half are off the map.
* KITTI odometry 00, a map of its first 1200 frames and the drive of frames 1480 to 1699, which
  comes onto the map and leaves it again; and 300 frames of other streets on a map of 420.
* Gardens Point, the first 50 images by day as the map, the whole walk by night.
* The demo's town, half of it mapped.

The constants of the evidence of one image (localization/candidates.py), of SIFT's inliers
(inliers.py) and of the sequence filter were chosen on the first three; the town is a check. Nothing
that ships learns its weights from any.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy.drives import EVERY_IMAGE, KEYPOINTS, frame_of
from benchmark.accuracy.gardens_point import BASE_FROM_CAMERA, aligned_dataset, without_intrinsics
from benchmark.accuracy.gardens_point import DATA as GARDENS_POINT
from benchmark.accuracy.kitti import DATA as KITTI
from benchmark.accuracy.kitti import MODEL, drifting, only_lens, part
from benchmark.accuracy.kitti import drive as every_frame
from benchmark.truth import bases, truth_of
from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage, open_dataset, open_images
from disam_ros.demo.drives import CONDITIONS, REFERENCE
from disam_ros.demo.drives import DATA as TOWN
from disam_ros.geometry import Transform, distance
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from disam_ros.pose_buffer import NANOSECONDS

SF = Path("data/sf_years")
DAY, NIGHT = "summer_day", "night"
NEAR_M, FAR_M = 10.0, 50.0  # of sf_years: on the map up to, off it beyond
ON_M = 5.0  # of drives: on the map up to this distance to its nearest image
WALK = 50  # images of the small map
WAYS = {"keypoints": replace(EVERY_IMAGE, keypoints=KEYPOINTS), "no keypoints": EVERY_IMAGE}
Figures = dict[str, float | int]


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of the images of a drive."""

    known: NDArray[np.bool_]  # whether the place was recognized [n]
    errors: NDArray[np.float64]  # of the pose [n] [m]

    def figures(self, on: NDArray[np.bool_], off: NDArray[np.bool_]) -> Figures:
        """Counts of images on and off the map, of known ones, and of wrong known ones."""
        return {
            "on": int(on.sum()),
            "known_on": int((self.known & on).sum()),
            "off": int(off.sum()),
            "known_off": int((self.known & off).sum()),
            "wrong": int((self.known & (self.errors > ON_M)).sum()),
            "far": int((self.known & (self.errors > 25.0)).sum()),
            "entering": delay(self.known, on),
            "leaving": delay(~self.known, off),
        }


def delay(state: NDArray[np.bool_], place: NDArray[np.bool_]) -> int:
    """Images of a drive from coming to a place, at last, until the state is as it should be there.

    state, place: whether, by image [n]. 0: from the first image there on; the last of several times
    that the drive comes there counts, and a drive that does not comes there at no image.
    """
    came = np.flatnonzero(place & ~np.append(False, place[:-1]))
    if not len(came):
        return 0
    return int(np.argmax(np.append(state[came[-1] :], True)))


def localized(
    localizer: Localizer, items: Sequence[PosedImage], odometry: OdometryTrack | None = None
) -> Outcomes:
    """Localizes images of a drive in order."""
    pipeline, camera = Pipeline(localizer), localizer.map.main_camera()
    accepted, errors = [], []
    for item in items:
        frame = frame_of(item, camera)
        stamp_ns = frame.stamp_ns or 0
        reading = odometry.reading(stamp_ns) if odometry else None
        (result,) = pipeline.process([Shot(frame, reading)])
        answer = result.answer
        true = truth_of(item.record)
        accepted.append(answer.known)
        errors.append(np.linalg.norm(answer.map_from_camera.translation - true.translation))
    return Outcomes(np.array(accepted), np.array(errors))


def opened(directory: Path, single: bool = False, domain: str = "") -> Localizer:
    """Opens a map with the node's defaults."""
    config = LocalizerConfig(device="cpu")
    config.sequence.enabled, config.domain.override = not single, domain
    return Localizer.open(directory, MODEL, config)


def measure() -> dict[str, Any]:
    """Figures by data. Raises DatasetError without them."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        return {
            "streets": streets(root),
            "leaving": leaving(root),
            "walk": walk(root),
            "town": town(root),
        }


def streets(root: Path) -> dict[str, dict[str, Figures]]:
    """sf_years, single images, by half of the city and of all of it, with keypoints and without."""
    items = list(streets_source("query").images)
    truth = positions_of(items)
    results: dict[str, dict[str, Figures]] = {}
    for name, source in [*street_halves(), ("all", streets_source("map"))]:
        gaps = gaps_between(truth, positions_of(list(source.images)))
        results[name] = {}
        for way, settings in WAYS.items():
            directory = root / f"{name} {way}"
            settings = replace(settings, domain=DAY)
            build_map(source, load_model(MODEL), directory, settings, show_progress=False)
            outcomes = localized(opened(directory, True, DAY), items)
            on, right = gaps <= NEAR_M, outcomes.errors <= NEAR_M
            results[name][way] = {
                "on": int(on.sum()),
                "right": int((on & right).sum()),
                "known_right": int((on & right & outcomes.known).sum()),
                "known_wrong": int((on & (outcomes.errors > 25.0) & outcomes.known).sum()),
                "off": int((gaps > FAR_M).sum()),
                "known_off": int(((gaps > FAR_M) & outcomes.known).sum()),
            }
    return results


def street_halves() -> Iterator[tuple[str, ImageSource]]:
    """The mapped images of sf_years by half of the city, and its name."""
    mapped = streets_source("map")
    images = list(mapped.images)
    places = positions_of(images)
    for axis, names in enumerate((("west", "east"), ("south", "north"))):
        beyond = places[:, axis] > np.median(places[:, axis])
        for side, name in enumerate(names):
            rows = np.flatnonzero(beyond == bool(side))
            yield name, part(mapped, [images[row] for row in rows])


def streets_source(split: str) -> ImageSource:
    """One split of sf_years, of a camera without intrinsics that looks north."""
    with (SF / "images.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    images, north = [], np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    for number, row in enumerate(rows):
        position = np.array([float(row["utm_east"]), float(row["utm_north"]), 0.0])
        pose = Transform(position - [544000.0, 4174000.0, 0.0], north) @ BASE_FROM_CAMERA
        record = ImageRecord(number, 0, "front", DAY, row["file"], pose)
        images.append(PosedImage(record, partial(image.read, SF / "images" / row["file"])))
    camera = Camera(400, 400, 0.0, 0.0, 0.0, 0.0, (), BASE_FROM_CAMERA)
    return ImageSource(images, DatasetInfo("sf_years", {"front": camera}), split, len(images))


def leaving(root: Path) -> dict[str, Figures]:
    """KITTI odometry 00: a drive that enters and leaves the map, and other streets."""
    whole, results = every_frame(KITTI), dict[str, Figures]()
    frames = list(whole.images)
    truth = bases((item.record for item in frames), only_lens(whole))
    stamps = np.array([item.record.stamp_ns for item in frames])
    track = OdometryTrack.of(stamps, drifting(truth), NANOSECONDS)
    rows = {
        "keypoints": (MapBuilderConfig(domain=DAY), frames[:1200], frames[1480:1700]),
        "no keypoints": (
            MapBuilderConfig(keypoints=0, domain=DAY),
            frames[:1200],
            frames[1480:1700],
        ),
        "other streets": (
            replace(EVERY_IMAGE, domain=DAY),
            frames[:420:2],
            frames[600:1500:3],
        ),
    }
    for name, (settings, mapped, items) in rows.items():
        directory = root / name.replace(" ", "_")
        build_map(part(whole, mapped), load_model(MODEL), directory, settings, show_progress=False)
        gaps = gaps_between(positions_of(items), positions_of(mapped))
        turns = _turns(items, mapped)
        for way, odometry in {"single images": None, "sequence": None, "odometry": track}.items():
            localizer = opened(directory, way == "single images", DAY)
            outcomes = localized(localizer, items, odometry)
            on = gaps <= ON_M
            figures = results[f"{name}, {way}"] = outcomes.figures(on, ~on)
            if (missed := on & ~outcomes.known).any():
                figures["turned"] = float(np.median(turns[missed]))
    return results


def walk(root: Path) -> dict[str, Figures]:
    """Gardens Point: a map of the first images, the whole walk by night as a sequence."""
    results, night = dict[str, Figures](), "night_right"
    queries = without_intrinsics(
        open_dataset(aligned_dataset(GARDENS_POINT / night, root / night, NIGHT).directory)
    )
    for name in ("day_left", "day_right"):
        dataset = aligned_dataset(GARDENS_POINT / name, root / name, DAY)
        source = without_intrinsics(open_dataset(dataset.directory))
        mapped = part(source, list(source.images)[:WALK])
        settings = replace(EVERY_IMAGE, domain=DAY)
        directory = root / f"{name}_map"
        build_map(mapped, load_model(MODEL), directory, settings, show_progress=False)
        outcomes = localized(opened(directory, domain=NIGHT), list(queries.images))
        on = np.arange(len(outcomes.known)) < WALK
        results[name] = outcomes.figures(on, ~on)
    return results


def town(root: Path) -> dict[str, Figures]:
    """The demo's drives with half of the town mapped, as sequences with odometry."""
    reference, results = open_dataset(REFERENCE), dict[str, Figures]()
    images = list(reference.images)
    half = part(reference, images[: len(images) // 2])
    build_map(half, load_model(MODEL), root / "half", EVERY_IMAGE, show_progress=False)
    for condition in CONDITIONS:
        source = open_images(TOWN / condition, reference.info.map_frame)
        items = [item for item in source.images if item.record.map_from_camera is not None]
        assert source.odometry is not None
        gaps = gaps_between(positions_of(items), positions_of(images[: len(images) // 2]))
        track = OdometryTrack.of(*source.odometry, NANOSECONDS)
        outcomes = localized(opened(root / "half"), items, track)
        results[condition] = outcomes.figures(gaps <= ON_M, gaps > ON_M)
    return results


def positions_of(items: Sequence[PosedImage]) -> NDArray[np.float64]:
    """Positions of cameras [n, 3] [m]."""
    return np.array([truth_of(item.record).translation for item in items])


def gaps_between(
    positions: NDArray[np.float64], mapped: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distances [n] to the nearest of the mapped positions [m]."""
    return np.array([np.linalg.norm(mapped - at, axis=1).min() for at in positions])


def _turns(items: Sequence[PosedImage], mapped: Sequence[PosedImage]) -> NDArray[np.float64]:
    """Angles [n] between the views of images and of the nearest of the mapped ones [deg]."""
    poses, truth = ([truth_of(item.record) for item in images] for images in (mapped, items))
    nearest = [min(poses, key=lambda pose: distance(pose, true)[0]) for true in truth]
    return np.array([distance(*pair)[1] for pair in zip(nearest, truth, strict=True)])
