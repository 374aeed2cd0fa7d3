# SPDX-License-Identifier: Apache-2.0
"""Localizes the images of a recorded drive in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ImageError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.odometry import OdometryTrack
from disam_ros.localization.result import Localization
from disam_ros.localization.tracker import Tracker
from disam_ros.mapping.keypoints import intrinsics

logger = logging.getLogger(__name__)

MAX_AGE_NS = 1_000_000_000  # farthest that odometry may be from an image


def localizations(
    localizer: Localizer,
    source: ImageSource,
    images: Iterable[PosedImage],
    tracker: Tracker | None = None,
    believe_domains: bool = False,
    points: bool = True,
) -> Iterator[tuple[ImageRecord, Localization | None]]:
    """Localize images in order, by all that the drive tells; None for those that cannot be read.

    images: those of the source, or the same wrapped for display. tracker: follows the sequence,
    with the source's odometry; None: each image alone. believe_domains: use the domain names of the
    images instead of clock, sun and weather. points: whether the tracker may verify by them. What
    cannot be read is logged.
    """
    track = OdometryTrack.of(*source.odometry, MAX_AGE_NS) if source.odometry else None
    for item in images:
        record, stamp_ns = item.record, item.record.stamp_ns or None
        latitude, longitude = item.place or (source.info.latitude, source.info.longitude)
        try:
            picture = item.load()
            found = localizer.localize(
                picture,
                stamp_ns,
                record.camera or None,
                weather=item.weather,
                latitude=latitude,
                longitude=longitude,
                domain=record.domain if believe_domains else None,
            )
        except ImageError as error:
            logger.warning("not localized: %s", error)
            yield record, None
            continue
        if tracker is not None:
            at = track.at(record.stamp_ns) if track else None
            shown = picture if points else None
            lens = intrinsics(source.info.cameras, record.camera)
            found = tracker.follow(found, stamp_ns, at and at[0], image=shown, camera=lens)
        yield record, found


def camera_mount(source: ImageSource, record: ImageRecord) -> Transform:
    """base_from_camera of an image's camera; identity where the source tells none."""
    camera = source.info.cameras.get(record.camera)
    return camera.base_from_camera if camera else Transform.identity()
