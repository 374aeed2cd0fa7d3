# SPDX-License-Identifier: Apache-2.0
"""Public place-recognition data sets → dataset directories.

A format is a class in a module of its own (`Format`) and a line in FORMATS; `disam convert` takes
its options from the fields of the class.
"""

from disam_ros.datasets.formats.aligned import Aligned
from disam_ros.datasets.formats.cmu_seasons import CmuSeasons
from disam_ros.datasets.formats.colmap import Colmap
from disam_ros.datasets.formats.foreign import Format
from disam_ros.datasets.formats.kitti_odometry import KittiOdometry
from disam_ros.datasets.formats.nerfstudio import Nerfstudio
from disam_ros.datasets.formats.photos import Photos
from disam_ros.datasets.formats.robotcar_seasons import RobotcarSeasons
from disam_ros.datasets.formats.rtabmap import Rtabmap
from disam_ros.datasets.formats.tum import Tum
from disam_ros.datasets.formats.video import Video

FORMATS: dict[str, type[Format]] = {
    "aligned": Aligned,
    "cmu-seasons": CmuSeasons,
    "colmap": Colmap,
    "kitti-odometry": KittiOdometry,
    "nerfstudio": Nerfstudio,
    "photos": Photos,
    "robotcar-seasons": RobotcarSeasons,
    "rtabmap": Rtabmap,
    "tum": Tum,
    "video": Video,
}
