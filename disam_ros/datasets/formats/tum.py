# SPDX-License-Identifier: Apache-2.0
"""Images with a TUM trajectory.

From the "File Formats" page of the TUM RGB-D benchmark: `rgb.txt` has lines `timestamp file`, the
trajectory `timestamp tx ty tz qx qy qz qw`, seconds since 1970, the position and orientation of the
colour camera's optical centre in the world; # begins a comment. `calibration.txt` with
`fx fy cx cy` is the ETH3D SLAM benchmark's, which has the same layout.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from disam_ros import image
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.foreign import (
    ForeignDataset,
    ForeignImage,
    Format,
    domain_setting,
    gap_setting,
    image_files,
    intrinsics_setting,
    pinhole,
)
from disam_ros.datasets.text_rows import text_rows, to_floats
from disam_ros.datasets.trajectories.reader import read_trajectory
from disam_ros.datasets.trajectories.times import to_stamps
from disam_ros.datasets.trajectories.trajectory import clock_hint, span_text
from disam_ros.errors import DatasetError
from disam_ros.pose_buffer import NANOSECONDS, PoseBuffer
from disam_ros.settings import setting

CAMERA = "front"
CALIBRATION = "calibration.txt"
INTRINSICS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")


@dataclass(frozen=True)
class Tum(Format):
    """Images in time order with poses interpolated to their stamps."""

    TITLE: ClassVar[str] = "images with a TUM trajectory"
    domain: str = domain_setting()
    trajectory: str = setting("groundtruth.txt", "file in the input directory")
    images: str = setting(
        "",
        "list of `timestamp file` lines, or folder of images named by their stamps, in the input "
        "directory; default: rgb.txt, else the folder rgb",
    )
    intrinsics: tuple[float, ...] = intrinsics_setting("calibration.txt")
    max_gap: float = gap_setting()

    def _read(self, directory: Path, /) -> ForeignDataset:
        """Read the images. Raises DatasetError."""
        listing = self.images or ("rgb.txt" if (directory / "rgb.txt").is_file() else "rgb")
        chosen = directory / listing
        files = _listed(chosen) if chosen.is_file() else _named_by_stamp(chosen)
        if not files:
            raise DatasetError(f"{chosen} lists no images; expected lines 'timestamp file'")
        trajectory = read_trajectory(directory / self.trajectory)
        poses = PoseBuffer.of(*trajectory.track, round(self.max_gap * NANOSECONDS))
        images = [
            ForeignImage(
                stamp_ns, CAMERA, self.domain, os.path.relpath(file, directory), poses.at(stamp_ns)
            )
            for stamp_ns, file in sorted(files.items())
        ]
        if all(item.map_from_camera is None for item in images):
            raise DatasetError(
                f"{directory / self.trajectory} has poses at {span_text(trajectory.stamps)}, which "
                f"give none to the images at {span_text(list(files))}"
                f"{clock_hint(trajectory.stamps, min(files))}; are both on one clock, and "
                f"poses closer than {self.max_gap} s?"
            )
        height, width = image.read_size(directory / images[0].source)
        numbers = self.intrinsics or _calibration(directory)
        what = "intrinsics" if self.intrinsics else str(directory / CALIBRATION)
        info = DatasetInfo(
            directory.resolve().name,
            {CAMERA: pinhole((width, height), numbers, what)},
            origin=f"TUM {self.trajectory}",
        )
        return ForeignDataset(directory, info, images)


def _listed(path: Path) -> dict[int, Path]:
    """List files by stamp [ns]; further columns, as in an association file, are not read."""
    cells, names = [], []
    for where, fields in text_rows(path):
        if len(fields) < 2:
            raise DatasetError(f"{where}: expected 'timestamp file', got '{' '.join(fields)}'")
        cells.append((where, fields[:1]))
        names.append(path.parent / fields[1])
    return dict(zip(to_stamps(path, cells), names, strict=True))


def _named_by_stamp(folder: Path) -> dict[int, Path]:
    files = image_files(folder)
    stamps = to_stamps(folder, [(str(file), [file.stem]) for file in files])
    return dict(zip(stamps, files, strict=True))


def _calibration(directory: Path) -> Sequence[float]:
    """Read the intrinsics. Raises DatasetError."""
    path = directory / CALIBRATION
    if not path.is_file():
        raise DatasetError(f"{path} not found: give the intrinsics with --intrinsics fx fy cx cy")
    fields = [field for _, row in text_rows(path) for field in row]
    expected = INTRINSICS[: max(len(fields), 4)]
    numbers: list[float] = to_floats(str(path), fields, " ".join(expected)).tolist()
    return numbers
