# SPDX-License-Identifier: Apache-2.0
"""Localizes a recorded drive as the node does: image by image, odometry up to each image."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from disam_ros.camera import Camera
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ImageError
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer
from disam_ros.localization.image_checks import StampOrder
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.odometry import OdometryTrack, Reading

logger = logging.getLogger(__name__)


def localize_drive(
    pipeline: Pipeline,
    source: ImageSource,
    images: Iterable[PosedImage] | None = None,
    believe_domains: bool = False,
) -> Iterator[tuple[ImageRecord, Answer | None]]:
    """Answers to the images of a drive in order; None where an image is unreadable or blank.

    images: those of the source, or the same wrapped for display. believe_domains: use the domain
    names of the images instead of clock, sun and weather. What cannot be used is logged.
    """
    stamps, odometry = StampOrder(), OdometryReplay(pipeline, source)
    for item in source.images if images is None else images:
        record = item.record
        camera = record.camera or pipeline.localizer.only_camera()
        stamp_ns = stamps.usable(camera, record.stamp_ns)
        latitude, longitude = item.place or (None, None)
        try:
            frame = Frame(
                image=item.load(),
                camera=camera,
                stamp_ns=stamp_ns,
                lens=_lens(pipeline, source.info.cameras.get(record.camera), camera),
                weather=item.weather,
                domain=record.domain if believe_domains else None,
                latitude=latitude,
                longitude=longitude,
            )
            answer = pipeline.process(frame, odometry.at(stamp_ns, item.odometry))
        except ImageError as error:
            logger.warning("not localized: %s", error)
            yield record, None
            continue
        yield record, answer


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


def _lens(pipeline: Pipeline, own: Camera | None, camera: str) -> Camera | None:
    """The drive's camera, with the mapping camera's intrinsics where it has none."""
    mapped = pipeline.localizer.map.header.cameras.get(camera)
    if own is None or own.calibrated or mapped is None:
        return own
    return replace(mapped, base_from_camera=own.base_from_camera)
