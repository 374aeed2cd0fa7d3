# SPDX-License-Identifier: Apache-2.0
"""Camera poses of a VisualSFM model (.nvm).

A first line `NVM_V3 …`, the number of cameras, then a line per camera: file name, focal length,
rotation world→camera as quaternion w x y z, camera CENTRE in the world, radial distortion, 0
(VisualSFM's documentation of the format). Camera axes: x right, y down, z forward (READMEs of the
CMU-Seasons and RobotCar-Seasons data sets). Points follow, which are not read.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from disam_ros.datasets.formats.foreign import pose_at_center
from disam_ros.datasets.text_rows import text_rows, to_floats
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform


def read_nvm(path: Path) -> dict[str, Transform]:
    """Read map_from_camera by image name as written in the file. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path} not found: it holds the reference poses; download it")
    rows = text_rows(path)
    _, header = next(rows, ("", [""]))
    _, count = next(rows, ("", [""]))
    if header[0] != "NVM_V3" or not re.fullmatch("[0-9]{1,9}", count[0]):
        raise DatasetError(
            f"{path} is no NVM model: expected 'NVM_V3' and the number of cameras, got "
            f"'{' '.join(header):.40}' and '{' '.join(count):.40}'"
        )
    poses = {}
    for where, (name, *fields) in islice(rows, int(count[0])):
        values = to_floats(where, fields, "focal qw qx qy qz cx cy cz distortion 0")
        poses[name] = pose_at_center(where, values[1:5], values[5:8])
    if len(poses) != int(count[0]):
        raise DatasetError(f"{path}: expected {count[0]} cameras, got {len(poses)}; is it cut off?")
    return poses
