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
from pathlib import Path

from disam_ros import image
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.formats.foreign import ForeignDataset, image_files, pinhole
from disam_ros.datasets.text_rows import nanoseconds, text_rows, to_floats
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import PoseBuffer

CAMERA = "front"
INTRINSICS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")


def read(
    directory: Path | str,
    *,
    domain: str,
    trajectory: str = "groundtruth.txt",
    images: str = "",
    intrinsics: Sequence[float] = (),
    max_gap: float = 0.5,
) -> ForeignDataset:
    """Images in time order with poses interpolated to their stamps.

    images: a list of `timestamp file` lines or a folder of images named by their stamps, relative
    to `directory`; default: rgb.txt, else the folder rgb. intrinsics: in pixels, fx fy cx cy
    [k1 k2 p1 p2 [k3]]; default: the numbers in calibration.txt. max_gap: longest time [s] between
    two poses across which is interpolated. Raises DatasetError.
    """
    directory = Path(directory)
    chosen = directory / (images or ("rgb.txt" if (directory / "rgb.txt").is_file() else "rgb"))
    files = _listed(chosen) if chosen.is_file() else _named_by_stamp(chosen)
    if not files:
        raise DatasetError(f"{chosen} lists no images; expected lines 'timestamp file'")
    track = _read_trajectory(directory / trajectory, round(max_gap * 1e9))
    records = [
        ImageRecord(
            id=0,
            stamp_ns=stamp_ns,
            camera=CAMERA,
            domain=domain,
            source=os.path.relpath(path, directory),
            map_from_camera=track.at(stamp_ns),
        )
        for stamp_ns, path in sorted(files.items())
    ]
    stamps = track.track.stamps
    if all(record.map_from_camera is None for record in records):
        raise DatasetError(
            f"{directory / trajectory} has poses at {stamps[0] / 1e9:.3f} to "
            f"{stamps[-1] / 1e9:.3f} s, which give none to the images at {min(files) / 1e9:.3f} to "
            f"{max(files) / 1e9:.3f} s; are both on one clock, and poses closer than {max_gap} s?"
        )
    height, width = image.read_size(directory / records[0].source)
    camera = pinhole((width, height), intrinsics or _calibration(directory), "intrinsics")
    info = DatasetInfo(directory.resolve().name, {CAMERA: camera}, origin=f"TUM {trajectory}")
    return ForeignDataset(directory, info, records)


def _read_trajectory(path: Path, max_gap_ns: int) -> PoseBuffer:
    """map_from_camera over time; of lines of one stamp the last counts."""
    poses = {}
    for where, (stamp, *fields) in text_rows(path):
        values = to_floats(where, fields, "tx ty tz qx qy qz qw")
        try:
            poses[nanoseconds(where, stamp)] = Transform(values[:3], values[3:])
        except GeometryError as error:
            raise DatasetError(f"{where}: {error}") from error
    if not poses:
        raise DatasetError(f"{path} holds no poses; expected lines timestamp tx ty tz qx qy qz qw")
    return PoseBuffer.of(list(poses), list(poses.values()), max_gap_ns)


def _listed(path: Path) -> dict[int, Path]:
    """Files by stamp (ns); further columns, as in an association file, are not read."""
    files = {}
    for where, fields in text_rows(path):
        if len(fields) < 2:
            raise DatasetError(f"{where}: expected 'timestamp file', got '{' '.join(fields)}'")
        files[nanoseconds(where, fields[0])] = path.parent / fields[1]
    return files


def _named_by_stamp(folder: Path) -> dict[int, Path]:
    return {nanoseconds(str(path), path.stem): path for path in image_files(folder)}


def _calibration(directory: Path) -> list[float]:
    path = directory / "calibration.txt"
    if not path.is_file():
        raise DatasetError(f"{path} not found: give the intrinsics with --intrinsics fx fy cx cy")
    fields = [field for _, row in text_rows(path) for field in row]
    expected = INTRINSICS[: max(len(fields), 4)]
    return to_floats(str(path), fields, " ".join(expected)).tolist()
