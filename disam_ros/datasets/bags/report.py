# SPDX-License-Identifier: Apache-2.0
"""Reports what would be used of a bag to map or localize with, and what is odd about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from disam_ros.camera import Camera
from disam_ros.datasets.bags.images import BagImages, open_recording
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.pose_sources import PoseSource
from disam_ros.datasets.bags.poses import find_poses
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.survey import FIX, ODOM, WEATHER, survey_bag
from disam_ros.datasets.trajectories.trajectory import span_text
from disam_ros.errors import DisamError
from disam_ros.fixes import place_of
from disam_ros.pose_buffer import NANOSECONDS, Track

MOVES = 2.0  # reach of a drive [m]
STANDS = 0.05  # of it, the most that odometry has which stands still
MAX_POSE_GAP = 0.5  # time between two poses that are interpolated [s]
PACKAGE = logging.getLogger("disam_ros")


@dataclass
class BagReport:
    """What would be used of a bag."""

    rows: list[tuple[str, str]] = field(default_factory=list)  # name and text
    oddities: list[str] = field(default_factory=list)  # each with the option that mends it
    fault: str = ""  # why no map can be built of it; empty: one can

    def lines(self) -> list[str]:
        """The report as text, a line for each thing."""
        width = max((len(name) for name, _ in self.rows), default=0)
        lines = [f"{name:{width}}  {text}" for name, text in self.rows]
        lines += [f"{'odd':{width}}  {text}" for text in self.oddities]
        verdict = f"no map can be built of it: {self.fault}" if self.fault else "a map can be built"
        return [*lines, "", verdict]


def report_on(bag: Path | str, options: BagOptions, poses: PoseSource | None = None) -> BagReport:
    """Report on a bag as `BagImages` reads it to build a map. Raises BagError for one that cannot
    be opened."""
    report = BagReport()
    with _collected(report.oddities):
        try:
            _describe(report, bag, options, poses)
        except DisamError as error:
            report.fault = str(error)
    return report


def _describe(
    report: BagReport,
    bag: Path | str,
    options: BagOptions,
    poses: PoseSource | None,
) -> None:
    """Fill a report in. Raises DisamError with the fault."""
    path = Path(bag)
    with BagReader(path, options.recorded_stamps) as reader:
        seconds = max(reader.end_ns - reader.start_ns, 0) / NANOSECONDS
        count = sum(summary.count for summary in reader.topics().values())
        report.rows.append(("bag", f"{path}: {seconds:.1f} s, {count} messages"))
        survey = survey_bag(reader, options)
        for name, topic in survey.topics.topics.items():
            rate = topic.count / seconds if seconds > 0 else 0.0
            height, width = topic.size
            report.rows += [
                (
                    f"camera {name}",
                    f"{topic.topic}: {topic.count} images, {rate:.1f} Hz, {width}x{height}",
                ),
                ("  intrinsics", f"{_lens(survey.cameras[name])}, from {survey.intrinsics[name]}"),
                ("  mount", _mount(survey.cameras[name], survey.mounts[name])),
            ]
        report.rows += [
            ("left out", f"{topic.topic}: {topic.fault}") for topic in survey.topics.left_out
        ]
        report.oddities += list(survey.mount_faults.values())
        recording, _ = open_recording(reader, survey, options, MAX_POSE_GAP)
        sides = survey.side_topics
        report.rows += [
            ("frames", f"{options.map_frame or 'map'} ← {survey.base_frame}"),
            ("odometry", sides.get(ODOM, "none")),
            ("fixes", _fixes(reader, sides[FIX]) if FIX in sides else "none"),
            ("weather", sides.get(WEATHER, "none")),
        ]
        candidates = find_poses(recording.search)
        if recording.odometry is not None and candidates:
            driven, moved = (_reach(track) for track in (candidates[0].track, recording.odometry))
            if driven > MOVES and moved < STANDS * driven:
                report.oddities.append(
                    f"{recording.odometry_topic} stands still ({moved:.1f} m) where the poses of "
                    f"{candidates[0].name} reach {driven:.1f} m: its motion counts as unknown "
                    "where the view moves"
                )
        for number, candidate in enumerate(candidates):
            name = "or poses" if number else "poses"
            option = f", {candidate.option}" if number else ""
            report.rows.append((name, f"{candidate.text()}{option}"))
    images = BagImages(path, options, poses=poses, max_pose_gap=MAX_POSE_GAP, mounted=True)
    report.rows.append(("clock", _clock(images)))


def _clock(images: BagImages) -> str:
    """The time of the images, and how much of it has poses."""
    total = posed = 0
    stamps = []
    for item in images:
        total += 1
        posed += item.map_from_camera is not None
        stamps.append(item.stamp_ns)
    return f"images {span_text(stamps)}; {posed} of {total} have a pose"


def _reach(track: Track) -> float:
    """Largest distance from a track's first pose [m]."""
    places = np.array([pose.translation for pose in track.poses]).reshape(-1, 3)
    return float(np.linalg.norm(places - places[:1], axis=1).max(initial=0.0))


def _fixes(reader: BagReader, topic: str) -> str:
    """How many fixes of a topic are valid."""
    valid = [place_of(fix) is not None for _, fix in reader.messages([topic])]
    return f"{topic}: {sum(valid)} of {len(valid)} valid"


def _lens(camera: Camera) -> str:
    """A lens in words."""
    across = np.degrees(2 * np.arctan2(camera.width / 2, camera.fx))
    return f"{camera.model}, focal length {camera.fx:.0f} px, about {across:.0f}° across"


def _mount(camera: Camera, source: str) -> str:
    """Extrinsics in words."""
    x, y, z = camera.base_from_camera.translation
    ahead = camera.base_from_camera.rotation @ [0.0, 0.0, 1.0]
    heading = np.degrees(np.arctan2(ahead[1], ahead[0]))
    pitch = np.degrees(np.arcsin(np.clip(ahead[2], -1.0, 1.0)))
    return (
        f"at x {x:.2f} m, y {y:.2f} m, z {z:.2f} m, looking {heading:.0f}° to the left of "
        f"ahead and {pitch:.0f}° up, from {source}"
    )


class _Collector(logging.Handler):
    """Collects warnings as lines."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Add a warning, once."""
        if (line := record.getMessage()) not in self._lines:
            self._lines.append(line)


@contextmanager
def _collected(lines: list[str]) -> Iterator[None]:
    """Collect the package's warnings in place of logging them."""
    collector, propagates = _Collector(lines), PACKAGE.propagate
    PACKAGE.addHandler(collector)
    PACKAGE.propagate = False
    try:
        yield
    finally:
        PACKAGE.propagate = propagates
        PACKAGE.removeHandler(collector)
