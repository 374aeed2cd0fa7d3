# SPDX-License-Identifier: Apache-2.0
"""The common form of public data sets, and helpers to read their text files."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# A camera at the base's origin, facing forward: assumed where a data set does not give its
# extrinsics, so that base poses have REP-103 axes.
LOOKS_AHEAD = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


@dataclass(frozen=True)
class ForeignDataset:
    """The contents of a public data set.

    records: in the order to be written, drive by drive in time order; `source` is the image file
    relative to `directory`, `path` is empty. pixels: reads a record's image where it is no file,
    uint8 RGB [H, W, 3], of the records in their order; it raises ImageError.
    """

    directory: Path
    info: DatasetInfo
    records: list[ImageRecord]
    pixels: Callable[[ImageRecord], np.ndarray] | None = None

    def domains(self) -> dict[str, int]:
        """Number of images by domain, in order of first appearance."""
        return dict(Counter(record.domain for record in self.records))


def image_files(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder; numbers in names count as numbers (2 before 10).

    Raises DatasetError where there is none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} not found: expected a folder of images")
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DatasetError(f"{folder} holds no .jpg or .png images; unpack them there")
    return sorted(files, key=lambda path: (_numbers(path.stem), path.name))


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def pose_at_center(where: str, wxyz: np.ndarray, center: np.ndarray) -> Transform:
    """map_from_camera from the rotation camera_from_map (w x y z) and the camera's centre (m).

    Raises DatasetError unless the quaternion is a unit one.
    """
    try:
        return Transform(center, np.array([-wxyz[1], -wxyz[2], -wxyz[3], wxyz[0]]))
    except GeometryError as error:
        raise DatasetError(f"{where}: {error}") from error


def pinhole(size: tuple[int, int], values: Sequence[float], what: str) -> Camera:
    """A camera facing forward, from fx fy cx cy [k1 k2 p1 p2 [k3]] (pixels) and width, height.

    No values: unknown intrinsics, stored as focal lengths of 0. Raises DatasetError.
    """
    if len(values) not in (0, 4, 8, 9):
        raise DatasetError(
            f"{what}: expected fx fy cx cy [k1 k2 p1 p2 [k3]] in pixels, got {list(values)}"
        )
    padded = [*values, *[0.0] * (9 - len(values))]
    distortion = tuple(padded[4:]) if any(padded[4:]) else ()
    return Camera(*size, *padded[:4], distortion, LOOKS_AHEAD)


def warn_of_unused_poses(poses: Collection[str], records: list[ImageRecord], where: str) -> None:
    """Log the number of listed poses without an image; poses: their names.

    Raises DatasetError where no image has a pose at all.
    """
    if poses and all(record.map_from_camera is None for record in records):
        raise DatasetError(
            f"{where} lists {len(poses)} poses, none of an image found; unpack the images "
            f"of this list, the first being {min(poses)}"
        )
    if poses:
        logger.warning("%s: %d poses without an image, such as %s", where, len(poses), min(poses))
