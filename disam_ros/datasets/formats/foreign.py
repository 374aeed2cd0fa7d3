# SPDX-License-Identifier: Apache-2.0
"""The common form of public data sets, and helpers to read their text files."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.text_rows import located
from disam_ros.errors import DatasetError
from disam_ros.files.reading import parsing
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.settings import REQUIRED, setting

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# A camera at the base's origin, facing forward: assumed where a data set does not give its
# extrinsics, so that base poses have REP-103 axes.
LOOKS_AHEAD = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


@dataclass(frozen=True)
class ForeignImage:
    """An image of a public data set."""

    stamp_ns: int
    camera: str
    domain: str
    source: str  # the file, relative to the data set's directory, or a name where it is none
    map_from_camera: Transform | None  # None: unknown
    # Width and height of the file [px], where it is to be scaled to its camera's; None: the same.
    size: tuple[int, int] | None = None
    upright: bool = False  # whether its pixels are to be turned as its EXIF orientation says


@dataclass(frozen=True)
class ForeignDataset:
    """The contents of a public data set."""

    directory: Path
    info: DatasetInfo
    images: list[ForeignImage]  # in the order to be written, drive by drive in time order
    # Reads an image that is no file: RGB [H, W, 3], the images in their order. Raises ImageError.
    pixels: Callable[[ForeignImage], NDArray[np.uint8]] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)  # images by outcome of `Conversion`

    def domains(self) -> dict[str, int]:
        """Number of images by domain, in order of first appearance."""
        return dict(Counter(image.domain for image in self.images))


@dataclass(frozen=True)
class Format(ABC):
    """A format of data sets; the fields of its class are its options on the command line."""

    TITLE: ClassVar[str]  # what the format is, for the help

    def read(self, path: Path | str) -> ForeignDataset:
        """Read a data set. Raises DatasetError."""
        with parsing(Path(path), DatasetError):
            return self._read(Path(path))

    @abstractmethod
    def _read(self, path: Path, /) -> ForeignDataset:
        """Read the data set in a folder or a file. Raises DatasetError."""


def domain_setting() -> Any:
    """The setting of a format whose images are all of one domain."""
    return setting(REQUIRED, "domain of all images")


def intrinsics_setting(otherwise: str = "") -> Any:
    """The setting of intrinsics in pixels; empty: unknown, or found `otherwise`."""
    text = "fx fy cx cy [pixels], optionally k1 k2 p1 p2 [k3]"
    text += f"; default: {otherwise}" if otherwise else ""
    return setting((), text, minimum=-1e6, maximum=1e6)


def gap_setting() -> Any:
    """The setting of the time across which poses are interpolated."""
    return setting(0.5, "longest gap between two poses [s]", minimum=0.0, maximum=3600.0)


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


def pose_at_center(where: str, wxyz: NDArray[np.float64], center: NDArray[np.float64]) -> Transform:
    """Return map_from_camera of the rotation camera_from_map (w x y z) and the centre [m].

    Raises DatasetError unless the quaternion is a unit one.
    """
    with located(where):
        return Transform(center, np.array([-wxyz[1], -wxyz[2], -wxyz[3], wxyz[0]]))


def pinhole(size: tuple[int, int], values: Sequence[float], what: str) -> Camera:
    """A camera that looks ahead, of a size (width, height) and fx fy cx cy [k1 k2 p1 p2 [k3]].

    values: in pixels; empty: unknown, stored as focal lengths of 0. Raises DatasetError.
    """
    if len(values) not in (0, 4, 8, 9):
        raise DatasetError(
            f"{what}: expected fx fy cx cy [k1 k2 p1 p2 [k3]] in pixels, got {list(values)}"
        )
    fx, fy, cx, cy, *rest = [*values, *[0.0] * (9 - len(values))]
    distortion = tuple(rest) if any(rest) else ()
    return Camera(*size, fx, fy, cx, cy, distortion, LOOKS_AHEAD)


def turned(camera: Camera, quarters: int) -> Camera:
    """The camera of a pinhole's images turned by quarters clockwise, and held so."""
    for _ in range(quarters % 4):
        if not camera.calibrated:
            camera = replace(camera, width=camera.height, height=camera.width)
            continue
        distortion = camera.distortion
        if distortion:
            k1, k2, p1, p2, *rest = distortion
            distortion = k1, k2, p2, -p1, *rest
        camera = replace(
            camera,
            width=camera.height,
            height=camera.width,
            fx=camera.fy,
            fy=camera.fx,
            cx=camera.height - 1 - camera.cy,
            cy=camera.cx,
            distortion=distortion,
        )
    return camera


def shown_pinhole(
    size: tuple[int, int], quarters: int, values: Sequence[float], what: str
) -> Camera:
    """The pinhole of images that are stored with a size and shown turned by quarters clockwise.

    values: of the stored images, or of the shown ones where only their shape fits the principal
    point; see `pinhole`. Raises DatasetError.
    """
    stored = turned(pinhole(size, values, what), quarters)
    level = not values or (values[2] >= values[3]) == (size[0] >= size[1])
    return stored if level else pinhole((stored.width, stored.height), values, what)


def warn_of_unused_poses(poses: Collection[str], images: list[ForeignImage], where: str) -> None:
    """Log the number of listed poses without an image. poses: their names.

    Raises DatasetError where no image has a pose at all.
    """
    if poses and all(image.map_from_camera is None for image in images):
        raise DatasetError(
            f"{where} lists {len(poses)} poses, none of an image found; unpack the images "
            f"of this list, the first being {min(poses)}"
        )
    if poses:
        logger.warning("%s: %d poses without an image, such as %s", where, len(poses), min(poses))
