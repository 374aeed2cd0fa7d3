# SPDX-License-Identifier: Apache-2.0
"""Aligned folders, such as Nordland or Gardens Point: image i of every folder shows place i."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from disam_ros import image
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.formats.foreign import ForeignDataset, image_files, pinhole
from disam_ros.errors import DatasetError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform

CAMERA = "front"


def read(directory: Path | str, *, intrinsics: Sequence[float] = ()) -> ForeignDataset:
    """Every folder in `directory` that holds images is a domain, its name the domain's.

    Images are taken in the order of the numbers in their names. Image i gets the stamp i seconds,
    which counts as an unknown clock, and a pose i metres along the map's x axis, looking along it:
    an index in metres, not a measured place. intrinsics: fx fy cx cy [k1 k2 p1 p2 [k3]] in pixels;
    empty: unknown. Raises DatasetError, also where folders hold different numbers of images.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DatasetError(f"{directory} not found: expected a folder with a folder per condition")
    folders = sorted(path for path in directory.glob("[!.]*") if path.is_dir())
    files = {folder.name: image_files(folder) for folder in folders}
    if len({len(paths) for paths in files.values()}) != 1:
        found = ", ".join(f"{name} {len(paths)}" for name, paths in files.items()) or "no folder"
        raise DatasetError(
            f"{directory}: expected folders of equally many images, image i showing place i; "
            f"got {found}"
        )
    height, width = image.read_size(next(iter(files.values()))[0])
    records = [
        ImageRecord(
            id=0,
            stamp_ns=place * 1_000_000_000,
            camera=CAMERA,
            domain=name,
            source=path.relative_to(directory).as_posix(),
            map_from_camera=Transform.from_rotation(np.array([place, 0, 0]), BODY_FROM_OPTICAL),
        )
        for name, paths in files.items()
        for place, path in enumerate(paths)
    ]
    cameras = {CAMERA: pinhole((width, height), intrinsics, "intrinsics")}
    info = DatasetInfo(
        directory.resolve().name, cameras, origin="aligned folders: x is the image's number"
    )
    return ForeignDataset(directory, info, records)
