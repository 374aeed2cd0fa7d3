# SPDX-License-Identifier: Apache-2.0
"""Aligned folders, such as Nordland or Gardens Point: image i of every folder shows place i."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from disam_ros import image
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.foreign import (
    ForeignDataset,
    ForeignImage,
    Format,
    image_files,
    intrinsics_setting,
    pinhole,
)
from disam_ros.errors import DatasetError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.pose_buffer import NANOSECONDS

CAMERA = "front"


@dataclass(frozen=True)
class Aligned(Format):
    """Every folder that holds images is a domain, its name the domain's."""

    TITLE: ClassVar[str] = "a folder per condition; image i shows place i"
    intrinsics: tuple[float, ...] = intrinsics_setting()

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the images in the order of the numbers in their names.

        Image i gets the stamp i seconds, which counts as an unknown clock, and a pose i metres
        along the map's x axis, looking along it: an index in metres, not a measured place. Raises
        DatasetError, also where folders hold different numbers of images.
        """
        if not directory.is_dir():
            raise DatasetError(
                f"{directory} not found: expected a folder with a folder per condition"
            )
        folders = sorted(folder for folder in directory.glob("[!.]*") if folder.is_dir())
        files = {folder.name: image_files(folder) for folder in folders}
        if len({len(paths) for paths in files.values()}) != 1:
            counts = ", ".join(f"{name} {len(paths)}" for name, paths in files.items())
            raise DatasetError(
                f"{directory}: expected folders of equally many images, image i showing place i; "
                f"got {counts or 'no folder'}"
            )
        height, width = image.read_size(next(iter(files.values()))[0])
        images = []
        for name, paths in files.items():
            for place, file in enumerate(paths):
                pose = Transform.from_rotation(np.array([place, 0.0, 0.0]), BODY_FROM_OPTICAL)
                source = file.relative_to(directory).as_posix()
                images.append(ForeignImage(place * NANOSECONDS, CAMERA, name, source, pose))
        cameras = {CAMERA: pinhole((width, height), self.intrinsics, "intrinsics")}
        origin = "aligned folders: x is the image's number"
        info = DatasetInfo(directory.resolve().name, cameras, origin=origin)
        return ForeignDataset(directory, info, images)
