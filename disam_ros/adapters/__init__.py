# SPDX-License-Identifier: Apache-2.0
"""Public place-recognition data sets → dataset directories, and benchmark answers back.

Every adapter is `read(directory, *, …settings of the format) -> ForeignDataset`; a new one needs a
module beside these and a line in FORMATS.
"""

from collections.abc import Callable

from disam_ros.adapters import aligned, cmu_seasons, kitti_odometry, robotcar_seasons, tum
from disam_ros.adapters.conversion import Conversion, write_dataset
from disam_ros.adapters.foreign import ForeignDataset
from disam_ros.adapters.submission import answered_poses, submission_line, write_submission

FORMATS: dict[str, Callable[..., ForeignDataset]] = {
    "aligned": aligned.read,
    "cmu-seasons": cmu_seasons.read,
    "kitti-odometry": kitti_odometry.read,
    "robotcar-seasons": robotcar_seasons.read,
    "tum": tum.read,
}

__all__ = [
    "FORMATS",
    "Conversion",
    "ForeignDataset",
    "answered_poses",
    "submission_line",
    "write_dataset",
    "write_submission",
]
