# SPDX-License-Identifier: Apache-2.0
"""A folder of photos with the time and the place of each in its EXIF."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from disam_ros import image
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.formats.exif import Exif, read_exif, stamps_of
from disam_ros.datasets.formats.foreign import LOOKS_AHEAD, ForeignDataset, image_files, pinhole
from disam_ros.datasets.trajectories.geodetic import local_poses
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)

CAMERA = "front"


def read(directory: Path | str, *, domain: str, intrinsics: Sequence[float] = ()) -> ForeignDataset:
    """Photos in time order, metres east and north of the first that has a place.

    They look where GPSImgDirection says if each has it, else where the camera moves. Photos without
    a place have no pose. Altitudes are not used: phones' are tens of metres off. intrinsics: fx fy
    cx cy [k1 k2 p1 p2 [k3]] in pixels; empty: unknown. Raises DatasetError.
    """
    directory = Path(directory)
    files = image_files(directory)
    exifs = [read_exif(path) for path in tqdm(files, desc="EXIF", unit="img")]
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
    height, width = image.read_size(files[0])
    known = dict(zip(placed, poses, strict=True))
    records = [
        ImageRecord(0, stamps[row], CAMERA, domain, path.name, known.get(row))
        for row, path in enumerate(files)
    ]
    first = exifs[min(placed, key=lambda row: stamps[row])]
    info = DatasetInfo(
        directory.resolve().name,
        {CAMERA: pinhole((width, height), intrinsics, "intrinsics")},
        latitude=first.latitude,
        longitude=first.longitude,
        origin="photos with EXIF",
    )
    return ForeignDataset(directory, info, sorted(records, key=lambda record: record.stamp_ns))


def _poses(directory: Path, stamps: list[int], exifs: list[Exif]) -> list[Transform]:
    """map_from_camera [N], in the order given."""
    degrees = np.array([(exif.latitude, exif.longitude) for exif in exifs], np.float64)
    headings = [exif.heading for exif in exifs if exif.heading is not None]
    known = np.array(headings) if len(headings) == len(exifs) else None
    flat = np.zeros(len(exifs))
    _, ordered, _ = local_poses(directory, stamps, degrees, flat, None, known)
    rows = np.argsort(np.argsort(stamps, kind="stable"), kind="stable")
    return [ordered[row] @ LOOKS_AHEAD for row in rows]
