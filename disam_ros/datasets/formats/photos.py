# SPDX-License-Identifier: Apache-2.0
"""A folder of photos with the time and the place of each in its EXIF."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from disam_ros import image
from disam_ros.camera import Camera, same_shape
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
    turned,
)
from disam_ros.datasets.formats.reconstruction import merge_alike
from disam_ros.datasets.trajectories.geodetic import local_poses
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform

logger = logging.getLogger(__name__)

CAMERA = "front"


@dataclass(frozen=True)
class Photos(Format):
    """Photos in time order, in metres east and north of the first that has a place."""

    TITLE: ClassVar[str] = "a folder of photos with time and GPS position in their EXIF"
    domain: str = domain_setting()
    intrinsics: tuple[float, ...] = intrinsics_setting()

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the photos; those without a place have no pose.

        They look where GPSImgDirection says if each has it, else where the camera moves. Altitudes
        are not used: phones' are tens of metres off. Raises DatasetError.
        """
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
        sizes = [(width, height) for height, width in map(image.read_size, files)]
        lenses = _cameras(sizes, [exif.quarters for exif in exifs], self.intrinsics)
        cameras = merge_alike(lenses, str(directory))
        names = _names(cameras)
        for camera, name in list(names.items())[1:]:
            count, first_size = cameras.count(camera), f"{camera.width}x{camera.height}"
            logger.info("%s: %d photos of %s are of '%s'", directory, count, first_size, name)
        images = [
            ForeignImage(
                stamps[row],
                names[cameras[row]],
                self.domain,
                file.name,
                poses_by_row.get(row),
                size=(lenses[row].width, lenses[row].height),
                upright=exifs[row].quarters > 0,
            )
            for row, file in enumerate(files)
        ]
        first = exifs[min(placed, key=lambda row: stamps[row])]
        info = DatasetInfo(
            directory.resolve().name,
            {name: camera for camera, name in names.items()},
            latitude=first.latitude,
            longitude=first.longitude,
            origin="photos with EXIF",
        )
        return ForeignDataset(directory, info, sorted(images, key=lambda image: image.stamp_ns))


def _cameras(
    sizes: Sequence[tuple[int, int]], quarters: Sequence[int], intrinsics: Sequence[float]
) -> list[Camera]:
    """The cameras of photos [N] as they are shown, by their stored sizes and turns clockwise.

    intrinsics: of the commonest size in which the principal point is in the middle. A photo that is
    stored upright counts as turned clockwise; photos of another shape have no intrinsics.
    """
    counts = Counter(sizes)
    if intrinsics:
        cx, cy = [*intrinsics, 0.0, 0.0, 0.0][2:4]
        fitting = [size for size in sizes if (size[0] >= size[1]) == (cx >= cy)]
        counts = Counter(fitting or sizes)
    common, _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    lens = pinhole(common, intrinsics, "intrinsics")
    cameras = []
    for size, turns in zip(sizes, quarters, strict=True):
        stored = lens if same_shape(size, common) else turned(lens, 1)
        if not same_shape(size, (stored.width, stored.height)):
            stored = pinhole(size, (), "intrinsics")
        elif stored.calibrated:
            stored = stored.resized(*size)
        cameras.append(turned(replace(stored, width=size[0], height=size[1]), turns))
    return cameras


def _names(cameras: Sequence[Camera]) -> dict[Camera, str]:
    """Name the cameras of photos: front is the commonest, front_upright one held differently."""
    ordered = [camera for camera, _ in Counter(cameras).most_common()]
    names: dict[Camera, str] = {}
    kinds: Counter[str] = Counter()
    for camera in ordered:
        kind = CAMERA
        if _is_upright(camera) != _is_upright(ordered[0]):
            kind += "_upright" if _is_upright(camera) else "_level"
        kinds[kind] += 1
        names[camera] = kind if kinds[kind] == 1 else f"{kind}_{kinds[kind]}"
    return names


def _is_upright(camera: Camera) -> bool:
    return camera.height > camera.width


def _poses(directory: Path, stamps: list[int], exifs: list[Exif]) -> list[Transform]:
    """Return map_from_camera [N] of photos [N] with a place."""
    degrees = np.array([(exif.latitude, exif.longitude) for exif in exifs], np.float64)
    headings = [exif.heading for exif in exifs if exif.heading is not None]
    compass = np.array(headings) if len(headings) == len(exifs) else None
    flat = np.zeros(len(exifs))
    _, ordered, _ = local_poses(directory, stamps, degrees, flat, None, compass, keeps_all=True)
    rows = np.argsort(np.argsort(stamps, kind="stable"), kind="stable")
    return [ordered[row] @ LOOKS_AHEAD for row in rows]
