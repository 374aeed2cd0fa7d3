# SPDX-License-Identifier: Apache-2.0
"""What following the sequence gains: every image alone, and the filter with and without odometry.

Offline, no look-ahead. The calibration was learned on another town (models/*/calibration.json);
nothing was chosen on the drives below.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark import gardens_point, nordland
from benchmark.peers.table import markdown, percent
from benchmark.wrong_domain import RENDERED, drive_of
from demo.drives import CONDITIONS as SHIPPED
from demo.drives import DATA, MODEL, REFERENCE
from disam_ros.checkpoint import load_model
from disam_ros.config import FilterConfig, LocalizerConfig, MapBuilderConfig
from disam_ros.evaluation.confidence import consistency
from disam_ros.geometry import Transform
from disam_ros.localizer import Localizer
from disam_ros.map_builder import build_map
from disam_ros.odometry import OdometryTrack
from disam_ros.sequence import Tracker
from disam_ros.sources import ImageSource, PosedImage, open_dataset, open_images
from disam_ros.synthetic import CONDITIONS

SECOND = 1_000_000_000
RIGHT_M = 5.0  # in the town
PACE = 2.0  # largest speed without odometry, in frames an image
ALONE, BLIND, ODOMETRY = "each image alone", "sequence, no odometry", "sequence, odometry"
POINTS = ", points"  # verified by them
ROWS = (ALONE, ALONE + POINTS, BLIND, ODOMETRY, ODOMETRY + POINTS)
KEYPOINTS = 512  # of a map image


@dataclass(frozen=True)
class Ride:
    """Queries in order, how each may be told, and how far off an answer may be (metres)."""

    name: str
    items: Sequence[PosedImage]
    truth: list[Transform]  # map_from_base
    odometry: OdometryTrack
    domain: str | None
    right: float
    max_speed: float


def measure() -> dict:
    """Figures by ride and row."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for localizer, ride in (*town(Path(scratch)), *gardens(Path(scratch)), *train(scratch)):
            kept = localizer.map.header.keypoints is not None
            rows = [row for row in ROWS if kept or not row.endswith(POINTS)]
            found[ride.name] = {row: figures(localizer, ride, row) for row in rows}
    return {"rides": found, "least": FilterConfig().least_probability}


def render(results: dict) -> str:
    """The figures as a section of a page."""
    rows = []
    for name, ride in results["rides"].items():
        for row, values in ride.items():
            cells = [percent(values["right"]), percent(values["half"]), f"{values['median']:.2f}"]
            told = row != ALONE
            cells += [percent(values["answered"]), percent(values["wrong"])] if told else ["", ""]
            calibrated = name.startswith("town") and np.isfinite(values["pose"])
            cells.append(f"{values['pose']:.2f}" if told and calibrated else "")
            cells.append(f"{values['ms']:.1f}" if told else "")
            rows.append([name if row == ALONE else "", row, *cells])
    header = ["queries", "answer", "right", "within 0.5", "median error", "answered"]
    header += ["wrong of these", "NEES", "ms"]
    return (
        "## Following the sequence\n\n"
        "`python -m benchmark.accuracy sequences`: the best answer to every image, with default "
        "settings, alone or by the filter over all images so far (online). Right: town "
        "within 5 m, the model choosing its domain; Gardens Point ±2, Nordland ±1 frames. Median "
        "error in metres or frames. Answered: probability of the place at least "
        f"{results['least']:g}; wrong: share of those answers that are not right. Without odometry "
        "the filter knows the largest speed alone: 20 m/s in the town, two frames an image "
        "elsewhere. Odometry of the town is that of wheels (1 % scale error, drifting); Gardens "
        "Point and Nordland have none: there it is one frame an image, which is how both sets were "
        "aligned, so these rows are the best case. Points: the map keeps "
        f"{KEYPOINTS} of an image (SIFT, triangulated), the likeliest images are matched, and the "
        "pose is theirs where enough agree; Gardens Point has no metric poses to triangulate with, "
        "Nordland at 64×32 pixels no points. NEES: normalized error squared of answered poses over "
        "its expectation, 1 for a right covariance, of the town alone. ms: what following adds to "
        "an image.\n\n" + markdown(header, rows)
    )


def figures(localizer: Localizer, ride: Ride, row: str) -> dict[str, float]:
    """Shares in 0…1, the median error and milliseconds of the filter."""
    localizer.config.sequence = replace(localizer.config.sequence, max_speed=ride.max_speed)
    localizer.config.verify.when = "always" if row.endswith(POINTS) else "never"
    tracker = Tracker(localizer)
    errors, sure, laps, gaps = [], [], [], []
    apart = row.startswith(ALONE)
    for item, truth in zip(ride.items, ride.truth, strict=True):
        record = item.record
        place = item.place or (None, None)
        picture = item.load()
        found = localizer.localize(
            picture,
            record.stamp_ns,
            weather=item.weather,
            latitude=place[0],
            longitude=place[1],
            domain=ride.domain,
        )
        if row != ALONE:
            at = ride.odometry.at(record.stamp_ns) if row.startswith(ODOMETRY) else None
            stamp_ns = None if apart else record.stamp_ns
            found = tracker.follow(found, stamp_ns, at and at[0], image=picture)
            laps.append(found.timings_ms["sequence"])
        mount = localizer.map.header.cameras[found.camera].base_from_camera
        answer = found.map_from_base(mount)
        errors.append(float(np.linalg.norm(answer.translation - truth.translation)))
        sure.append(found.known)
        if found.known and row != ALONE:
            gaps.append((truth, answer, found.covariance(mount)))
    far, answered = np.array(errors), np.array(sure)
    return {
        "right": float((far <= ride.right).mean()),
        "half": float((far <= 0.5).mean()),
        "pose": consistency(*zip(*gaps, strict=True)).pose_mean if gaps else float("nan"),
        "median": float(np.median(far)),
        "answered": float(answered.mean()),
        "wrong": float((far[answered] > ride.right).mean()) if answered.any() else 0.0,
        "ms": float(np.median(laps)) if laps else 0.0,
    }


def town(scratch: Path) -> Iterator[tuple[Localizer, Ride]]:
    """The demo's town under every condition that can be had."""
    settings = MapBuilderConfig(keyframe_distance=0.0, keypoints=KEYPOINTS)
    place_map = build_map(open_dataset(REFERENCE), load_model(MODEL), scratch / "town", settings)
    localizer = Localizer.open(place_map.directory, MODEL, LocalizerConfig(device="cpu"))
    for condition in CONDITIONS:
        path = DATA / condition if condition in SHIPPED else RENDERED / condition
        if drive_of(condition, RENDERED) is None:
            continue
        source = open_images(path, "map")
        items = [_told(item, source) for item in source.images if item.record.map_from_camera]
        weather = CONDITIONS[condition].weather
        items = [item if item.weather else replace(item, weather=weather) for item in items]
        mount = localizer.map.header.cameras["front"].base_from_camera.inverse()
        truth = [item.record.map_from_camera @ mount for item in items]
        track = OdometryTrack.of(*source.odometry, SECOND)
        speed = FilterConfig().max_speed
        yield localizer, Ride(f"town, {condition}", items, truth, track, None, RIGHT_M, speed)


def gardens(scratch: Path) -> Iterator[tuple[Localizer, Ride]]:
    """Gardens Point, daynight-lite."""
    directory = gardens_point.SHIPPED / "daynight-lite"
    model = load_model(directory)
    for map_drive, names in gardens_point.QUERIES.items():
        domain = gardens_point.domain_of(model, map_drive)
        files = gardens_point.DATA / map_drive
        reference = gardens_point.aligned_dataset(files, scratch / map_drive, domain)
        target = scratch / f"map_{map_drive}"
        build_map(open_dataset(reference.directory), model, target, _everything())
        for name in names:
            domain = gardens_point.domain_of(model, name)
            folder = scratch / f"{map_drive}_{name}"
            queries = gardens_point.aligned_dataset(gardens_point.DATA / name, folder, domain)
            localizer = Localizer.open(target, directory, LocalizerConfig(device="cpu"))
            items = list(open_dataset(queries.directory).images)
            pair = f"Gardens Point, {map_drive} → {name}"
            yield localizer, _aligned(pair, items, domain, gardens_point.TOLERANCE)


def train(scratch: str) -> Iterator[tuple[Localizer, Ride]]:
    """Nordland, town-lite."""
    summer, winter = nordland.read(nordland.DATA)
    there, here = nordland.DOMAINS["town-lite"]
    target = Path(scratch) / "nordland"
    build_map(nordland.source(summer, there), load_model(MODEL), target, _everything())
    localizer = Localizer.open(target, MODEL, LocalizerConfig(device="cpu"))
    items = list(nordland.source(winter, here).images)
    yield localizer, _aligned("Nordland, summer → winter", items, here, nordland.TOLERANCE)


def _aligned(name: str, items: Iterable[PosedImage], domain: str, tolerance: int) -> Ride:
    """Image i at x = i metres, one a second."""
    timed = [
        replace(item, record=replace(item.record, stamp_ns=(i + 1) * SECOND))
        for i, item in enumerate(items)
    ]
    truth = [Transform.from_xyz_rpy([float(i), 0, 0, 0, 0, 0]) for i in range(len(timed))]
    stamps = np.array([item.record.stamp_ns for item in timed])
    track = OdometryTrack.of(stamps, truth, SECOND)
    return Ride(name, timed, truth, track, domain, tolerance + 0.5, PACE)


def _told(item: PosedImage, source: ImageSource) -> PosedImage:
    return replace(item, place=item.place or (source.info.latitude, source.info.longitude))


def _everything() -> MapBuilderConfig:
    return MapBuilderConfig(keyframe_distance=0.0)
