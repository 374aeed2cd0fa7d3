# SPDX-License-Identifier: Apache-2.0
"""Public place-recognition data sets → dataset directories.

Every adapter is `read(directory, *, …settings of the format) -> ForeignDataset`; a new one needs a
module here and a line in FORMATS.
"""

from collections.abc import Callable

from disam_ros.datasets.formats import (
    aligned,
    cmu_seasons,
    colmap,
    kitti_odometry,
    photos,
    robotcar_seasons,
    rtabmap,
    tum,
    video,
)
from disam_ros.datasets.formats.conversion import Conversion, write_dataset
from disam_ros.datasets.formats.foreign import ForeignDataset

FORMATS: dict[str, Callable[..., ForeignDataset]] = {
    "aligned": aligned.read,
    "cmu-seasons": cmu_seasons.read,
    "colmap": colmap.read,
    "kitti-odometry": kitti_odometry.read,
    "photos": photos.read,
    "robotcar-seasons": robotcar_seasons.read,
    "rtabmap": rtabmap.read,
    "tum": tum.read,
    "video": video.read,
}

__all__ = [
    "FORMATS",
    "Conversion",
    "ForeignDataset",
    "write_dataset",
]
