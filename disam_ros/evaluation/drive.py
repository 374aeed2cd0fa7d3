# SPDX-License-Identifier: Apache-2.0
"""Results of a whole drive, offline or from the running node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from disam_ros.camera import mount
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.device import memory_peak_mib
from disam_ros.entry import signal_of
from disam_ros.errors import DatasetError, MapError
from disam_ros.evaluation.answers import QueryResult, localize_all
from disam_ros.evaluation.metrics import RANKS
from disam_ros.files.printable import printable
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import MISSING, UNREADABLE
from disam_ros.mapping.place_map import PlaceMap

Answers = Callable[[ImageSource], Iterable[QueryResult]]


@dataclass(frozen=True)
class Drive:
    """Query results of one drive."""

    name: str  # of the directory or bag, without its extension
    source: ImageSource  # with the camera names of the map
    answers: list[QueryResult]  # in the order of the images
    seconds: float  # duration of the run
    notes: list[str] = field(default_factory=list)  # remarks on the validity of the metrics
    run: dict[str, object] = field(default_factory=dict)  # rates and counts of the run
    interrupted: int = 0  # signal that ended the run early; 0: none

    def map_from_base(self, camera: str, poses: Iterable[Transform | None]) -> list[Transform]:
        """Converts a camera's poses (map_from_camera) to the vehicle's, without unknown ones."""
        camera_from_base = mount(self.source.info.cameras, camera).inverse()
        return [pose @ camera_from_base for pose in poses if pose is not None]

    def condition_of(self, record: ImageRecord) -> str:
        """Returns the domain of an image; the drive's name where it is unknown."""
        return record.domain or self.name


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
        images = tqdm(
            prepared.images,
            total=prepared.total,
            desc=printable(name),
            unit="img",
            disable=not show_progress,
        )
        return localize_all(localizer, prepared, images, believe_domains, max(RANKS))

    drive = collect(localizer.map, source, name, answers)
    per_second = len(drive.answers) / drive.seconds
    run = {"images per second, decoding included": round(per_second, 1)}
    return replace(drive, run={**run, "memory peak (MiB)": round(memory_peak_mib())})


def collect(place_map: PlaceMap, source: ImageSource, name: str, answers: Answers) -> Drive:
    """Collects the results of a source prepared for a map: its camera names, no stamp twice.

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
    results: list[QueryResult] = []
    interrupted = 0
    begin = time.perf_counter()
    try:
        for answer in answers(prepared):
            results.append(answer)
    except KeyboardInterrupt as end:
        if not results:
            raise
        interrupted = signal_of(end)
        notes.append(f"interrupted after {len(results)} of {source.total} images: figures of these")
    seconds = time.perf_counter() - begin
    if not results:
        raise DatasetError(f"{name} holds no images; is it the right directory or bag?")
    if repeated:
        notes.append(f"{len(repeated)} images repeat the stamp of another and were left out")
    notes += _faults(source, results)
    return Drive(name, prepared, results, seconds, notes, interrupted=interrupted)


def as_mapped(place_map: PlaceMap, source: ImageSource) -> tuple[ImageSource, list[str]]:
    """Returns the source with the camera names of the map, and notes on what was renamed."""
    mapped, recorded = place_map.cameras(), sorted(source.info.cameras)
    if not set(recorded) - set(mapped):
        return source, []
    if len(mapped) > 1 or len(recorded) > 1:
        raise MapError(
            f"the drive has the cameras {recorded}, the map {mapped}: record or convert it with "
            f"the names of the map"
        )
    only = mapped[0]
    info = replace(source.info, cameras={only: source.info.cameras[recorded[0]]})
    note = f"camera '{recorded[0]}' is compared with '{only}', the only camera of the map"

    def renamed(item: PosedImage) -> PosedImage:
        return replace(item, record=replace(item.record, camera=only))

    return replace(source, info=info).map(renamed), [note]


def _faults(source: ImageSource, answers: list[QueryResult]) -> list[str]:
    """Describes missing ground truth and missing answers."""
    notes = []
    unposed = [a.record for a in answers if a.record.map_from_camera is None]
    if source.fault:
        notes.append(f"no ground truth, hence no errors: {source.fault}")
    elif len(unposed) == len(answers):
        notes.append(f"no image has a true pose, hence no errors{_time_spans(source, unposed)}")
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


def _time_spans(source: ImageSource, records: list[ImageRecord]) -> str:
    """Describes the time spans of images and poses if they do not overlap."""
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
