# SPDX-License-Identifier: Apache-2.0
"""A folder of photos with the time and the place of each in its EXIF."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from disam_ros import image
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.exif import Exif, read_exif, stamps_of
from disam_ros.datasets.formats.foreign import (
    LOOKS_AHEAD,
    ForeignDataset,
    ForeignImage,
    Format,
    domain_setting,
    image_files,
    intrinsics_setting,
    pinhole,
)
from disam_ros.datasets.trajectories.geodetic import local_poses
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)

CAMERA = "front"


@dataclass(frozen=True)
class Photos(Format):
    """Photos in time order, in metres east and north of the first that has a place."""

    TITLE: ClassVar = "a folder of photos with time and GPS position in their EXIF"
    domain: str = domain_setting()
    intrinsics: tuple[float, ...] = intrinsics_setting()

    def read(self, path: Path | str) -> ForeignDataset:
        """Read the photos; those without a place have no pose.

        They look where GPSImgDirection says if each has it, else where the camera moves. Altitudes
        are not used: phones' are tens of metres off. Raises DatasetError.
        """
        directory = Path(path)
        files = image_files(directory)
        exifs = [read_exif(file) for file in tqdm(files, desc="EXIF", unit="img")]
        stamps = stamps_of(files, exifs)
        placed = [row for row, exif in enumerate(exifs) if exif.placed]
        if len(placed) < 2:
            raise DatasetError(
                f"{directory}: {len(placed)} of {len(files)} photos have a place in their EXIF; "
                f"expected photos with GPS, or poses of another source (docs/mapping.md)"
            )
        if any(exif.taken_ns is None for exif in exifs):
            logger.warning("%s: photos without a time in their EXIF; by name instead", directory)
        poses = _poses(directory, [stamps[row] for row in placed], [exifs[row] for row in placed])
        poses_by_row = dict(zip(placed, poses, strict=True))
        images = [
            ForeignImage(stamps[row], CAMERA, self.domain, file.name, poses_by_row.get(row))
            for row, file in enumerate(files)
        ]
        height, width = image.read_size(files[0])
        first = exifs[min(placed, key=lambda row: stamps[row])]
        info = DatasetInfo(
            directory.resolve().name,
            {CAMERA: pinhole((width, height), self.intrinsics, "intrinsics")},
            latitude=first.latitude,
            longitude=first.longitude,
            origin="photos with EXIF",
        )
        return ForeignDataset(directory, info, sorted(images, key=lambda image: image.stamp_ns))


def _poses(directory: Path, stamps: list[int], exifs: list[Exif]) -> list[Transform]:
    """Return map_from_camera [N] of photos [N] with a place."""
    degrees = np.array([(exif.latitude, exif.longitude) for exif in exifs], np.float64)
    headings = [exif.heading for exif in exifs if exif.heading is not None]
    compass = np.array(headings) if len(headings) == len(exifs) else None
    flat = np.zeros(len(exifs))
    _, ordered, _ = local_poses(directory, stamps, degrees, flat, None, compass)
    rows = np.argsort(np.argsort(stamps, kind="stable"), kind="stable")
    return [ordered[row] @ LOOKS_AHEAD for row in rows]
