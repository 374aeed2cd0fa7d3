# SPDX-License-Identifier: Apache-2.0
"""Localizes a recorded drive as the node does: moment by moment, odometry up to each image.

A moment is an image of each camera, taken within WINDOW: what waits together in a node that keeps
up with its cameras. A drive of one camera is localized image by image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from disam_ros.camera import Camera
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import DisamError, ImageError
from disam_ros.geometry import Transform
from disam_ros.localization.checks import REMEDY, StampOrder
from disam_ros.localization.pipeline import Localized, Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.odometry import OdometryTrack, Reading
from disam_ros.localization.sequence.track import WINDOW

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Taken:
    """An image of a drive."""

    item: PosedImage
    camera: str  # its name in the map where the drive gives none
    stamp_ns: int | None  # None: unusable


def localize_drive(
    pipeline: Pipeline,
    source: ImageSource,
    images: Iterable[PosedImage] | None = None,
    believe_domains: bool = False,
) -> Iterator[tuple[ImageRecord, Localized | None]]:
    """Localizes the images of a drive in order; None where an image is unreadable or blank.

    images: those of the source, or the same wrapped for display. believe_domains: use the domain
    names of the images instead of clock, sun and weather. What cannot be used is logged.
    """
    odometry = OdometryReplay(pipeline, source)
    cameras, warned = max(1, len(source.info.cameras)), set[str]()
    for moment in _moments(pipeline, source.images if images is None else images, cameras):
        results: list[Localized | None] = [None] * len(moment)
        shots: list[tuple[int, Shot]] = []
        for number, taken in enumerate(moment):
            reading = odometry.at(taken.stamp_ns, taken.item.odometry)
            try:
                frame = _frame(pipeline, source, taken, believe_domains)
                shots.append((number, Shot(frame, reading)))
            except ImageError as error:
                _log(error)
        localized = pipeline.process([shot for _, shot in shots])
        for (number, _), result in zip(shots, localized, strict=True):
            answer = result.outcome
            if isinstance(answer, DisamError):
                _log(answer)
                continue
            results[number] = result
            if answer.upside_down and answer.camera not in warned:
                warned.add(answer.camera)
                logger.warning(REMEDY.format(camera=answer.camera))
            if answer.odometry_fault and answer.odometry_fault not in warned:
                warned.add(answer.odometry_fault)
                logger.warning(answer.odometry_fault)
        yield from zip([taken.item.record for taken in moment], results, strict=True)


def _moments(
    pipeline: Pipeline, images: Iterable[PosedImage], cameras: int
) -> Iterator[list[_Taken]]:
    """Groups images by moments, in their order. cameras: how many the drive has."""
    stamps, moment = StampOrder(), list[_Taken]()
    for item in images:
        camera = item.record.camera or pipeline.localizer.map.main_camera()
        taken = _Taken(item, camera, stamps.usable(camera, item.record.stamp_ns))
        if moment and not _joins(taken, moment):
            yield moment
            moment = []
        moment.append(taken)
        if len(moment) == cameras:  # waits for no other image
            yield moment
            moment = []
    if moment:
        yield moment


def _joins(taken: _Taken, moment: list[_Taken]) -> bool:
    """Whether an image is of the moment of others: of another camera, at the same time."""
    first = moment[0].stamp_ns
    if taken.stamp_ns is None or first is None or taken.camera in {t.camera for t in moment}:
        return False
    return abs(taken.stamp_ns - first) <= 1e9 * WINDOW


def _frame(pipeline: Pipeline, source: ImageSource, taken: _Taken, believe_domains: bool) -> Frame:
    """The image as a frame. Raises ImageError."""
    record = taken.item.record
    latitude, longitude = taken.item.place or (None, None)
    return Frame(
        image=taken.item.load(),
        camera=taken.camera,
        stamp_ns=taken.stamp_ns,
        lens=_lens(pipeline, source.info.cameras.get(record.camera), taken.camera),
        weather=taken.item.weather,
        domain=record.domain if believe_domains else None,
        latitude=latitude,
        longitude=longitude,
    )


def _log(error: DisamError) -> None:
    """Logs why an image cannot be used. Raises what is not the image's fault."""
    if not isinstance(error, ImageError):
        raise error
    logger.warning("not localized: %s", error)


class OdometryReplay:
    """Odometry of a drive as it arrives: what was recorded before each image."""

    def __init__(self, pipeline: Pipeline, source: ImageSource) -> None:
        self._recorded: list[tuple[int, Transform]] = []
        if source.odometry is not None:
            stamps, poses = source.odometry
            self._recorded = list(zip(stamps.tolist(), poses, strict=True))
        self._next = 0
        self._track = OdometryTrack.of_config(pipeline.config)

    def at(self, stamp_ns: int | None, recorded: int | None = None) -> Reading | None:
        """Odometry at an image's stamp; None where there is none near it.

        recorded: number of poses recorded before the image; None: those stamped up to it.
        """
        if stamp_ns is None:
            return None
        while self._next < len(self._recorded):
            pose_ns, pose = self._recorded[self._next]
            if pose_ns > stamp_ns if recorded is None else self._next >= recorded:
                break
            self._track.move(pose_ns, pose)
            self._next += 1
        return self._track.reading(stamp_ns)


def _lens(pipeline: Pipeline, lens: Camera | None, camera: str) -> Camera | None:
    """The drive's camera, with the mapping camera's intrinsics where it has none."""
    mapped = pipeline.localizer.map.header.cameras.get(camera)
    if lens is None or lens.calibrated or mapped is None:
        return lens
    return replace(mapped, base_from_camera=lens.base_from_camera)
