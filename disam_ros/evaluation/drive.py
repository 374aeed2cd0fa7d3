# SPDX-License-Identifier: Apache-2.0
"""Query results of a whole drive, offline or of the running node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from disam_ros.camera import mount
from disam_ros.datasets.dataset import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.device import memory_peak_mib
from disam_ros.entry import signal_of
from disam_ros.errors import DatasetError, MapError
from disam_ros.evaluation.answers import QueryResult, localize_all
from disam_ros.evaluation.metrics import RANKS
from disam_ros.geometry import Transform
from disam_ros.localization.answer import MISSING, UNREADABLE
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.place_map import PlaceMap

Answers = Callable[[ImageSource], Iterable[QueryResult]]


@dataclass(frozen=True)
class Drive:
    """Query results of one drive, in the order of its images.

    notes: remarks on the validity of the metrics. run: rates and counts of the run. seconds: its
    duration. interrupted: the signal that ended it early; 0: none.
    """

    name: str
    source: ImageSource
    answers: list[QueryResult]
    seconds: float
    notes: list[str] = field(default_factory=list)
    run: dict[str, object] = field(default_factory=dict)
    interrupted: int = 0

    def map_from_base(self, record: ImageRecord, pose: Transform | None) -> Transform | None:
        """The vehicle's pose for a pose of a record's camera."""
        if pose is None:
            return None
        return pose @ mount(self.source.info.cameras, record.camera).inverse()

    def conditions(self) -> dict[str, list[QueryResult]]:
        """Results by the domain of their images; by the drive's name where it is not known."""
        found: dict[str, list[QueryResult]] = {}
        for answer in self.answers:
            found.setdefault(answer.record.domain or self.name, []).append(answer)
        return found


def evaluate_drive(
    localizer: Localizer,
    source: ImageSource,
    name: str,
    believe_domains: bool = False,
    show_progress: bool = True,
) -> Drive:
    """Localizes a drive offline. Ctrl-C ends it early: the answers so far are kept and noted.

    believe_domains: use the domain names of the images instead of clock, sun and weather.
    """

    def answers(prepared: ImageSource) -> Iterator[QueryResult]:
        bar = {"total": prepared.total, "desc": name, "unit": "img", "disable": not show_progress}
        images = tqdm(prepared.images, **bar)
        return localize_all(localizer, prepared, images, believe_domains, max(RANKS))

    drive = collect(localizer.map, source, name, answers)
    per_second = len(drive.answers) / drive.seconds
    run = {"images per second, decoding included": round(per_second, 1)}
    return replace(drive, run={**run, "memory peak (MiB)": round(memory_peak_mib())})


def collect(place_map: PlaceMap, source: ImageSource, name: str, answers: Answers) -> Drive:
    """Collect the results of a source prepared for a map: its camera names, no stamp twice.

    Raises DatasetError for a drive without images, MapError for a camera that the map lacks,
    KeyboardInterrupt where a signal comes before the first result.
    """
    prepared, notes = as_mapped(place_map, source)
    first: dict[tuple[str, int], int] = {}  # id by camera and stamp
    repeated: set[int] = set()

    def unique(item: PosedImage) -> PosedImage | None:
        record = item.record
        key = record.camera, record.stamp_ns
        if not record.stamp_ns or first.setdefault(key, record.id) == record.id:
            return item  # stamp 0: it has none
        repeated.add(record.id)
        return None

    prepared = prepared.map(unique)
    found: list[QueryResult] = []
    interrupted = 0
    begin = time.perf_counter()
    try:
        for answer in answers(prepared):
            found.append(answer)
    except KeyboardInterrupt as end:
        if not found:
            raise
        interrupted = signal_of(end)
        notes.append(f"interrupted after {len(found)} of {source.total} images: figures of these")
    seconds = time.perf_counter() - begin
    if not found:
        raise DatasetError(f"{name} holds no images; is it the right directory or bag?")
    if repeated:
        notes.append(f"{len(repeated)} images repeat the stamp of another and were left out")
    notes += _faults(source, found)
    return Drive(name, prepared, found, seconds, notes, interrupted=interrupted)


def as_mapped(place_map: PlaceMap, source: ImageSource) -> tuple[ImageSource, list[str]]:
    """The source with the camera names of the map."""
    mapped, given = place_map.cameras(), sorted(source.info.cameras)
    if not set(given) - set(mapped):
        return source, []
    if len(mapped) > 1 or len(given) > 1:
        raise MapError(
            f"the drive has the cameras {given}, the map {mapped}: record or convert it with the "
            f"names of the map"
        )
    only = mapped[0]
    info = replace(source.info, cameras={only: source.info.cameras[given[0]]})
    note = f"camera '{given[0]}' is compared with '{only}', the only camera of the map"

    def renamed(item: PosedImage) -> PosedImage:
        return replace(item, record=replace(item.record, camera=only))

    return replace(source, info=info).map(renamed), [note]


def _faults(source: ImageSource, answers: list[QueryResult]) -> list[str]:
    """Missing ground truth and missing answers, in sentences."""
    notes = []
    unposed = [a.record for a in answers if a.record.map_from_camera is None]
    if source.fault:
        notes.append(f"no ground truth, hence no errors: {source.fault}")
    elif len(unposed) == len(answers):
        notes.append(f"no image has a true pose, hence no errors{_apart(source, unposed)}")
    elif unposed:
        notes.append(f"{len(unposed)} of {len(answers)} images have no true pose near their stamp")
    outcomes = Counter(answer.outcome for answer in answers)
    if outcomes[UNREADABLE]:
        notes.append(
            f"{outcomes[UNREADABLE]} images could not be decoded or show nothing: unanswered"
        )
    if outcomes[MISSING]:
        notes.append(f"{outcomes[MISSING]} images were lost or dropped and count as unanswered")
    return notes


def _apart(source: ImageSource, records: list[ImageRecord]) -> str:
    """The time spans of images and poses if they do not overlap."""
    if source.track is None or not len(source.track.stamps):
        return ""
    first, last = (int(source.track.stamps[i]) for i in (0, -1))
    stamps = [record.stamp_ns for record in records]
    gap = max(first - max(stamps), min(stamps) - last)
    if gap <= 0:
        return ": the poses are too far apart in time"
    return (
        f": images span {min(stamps) / 1e9:.3f} to {max(stamps) / 1e9:.3f} s, poses "
        f"{first / 1e9:.3f} to {last / 1e9:.3f} s; do their clocks differ?"
    )
