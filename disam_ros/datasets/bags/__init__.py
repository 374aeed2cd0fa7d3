# SPDX-License-Identifier: Apache-2.0
"""rosbag2 recordings (mcap and sqlite3) in and out; needs no ROS.

Modules that need the package rosbags are imported when their names are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from disam_ros.datasets.bags.from_dataset import dataset_to_bag
    from disam_ros.datasets.bags.image_messages import decode_image
    from disam_ros.datasets.bags.images import BagImage, BagImages
    from disam_ros.datasets.bags.poses import read_base_from_camera, read_poses
    from disam_ros.datasets.bags.reader import BagReader, RawMessage, TopicSummary
    from disam_ros.datasets.bags.to_dataset import BagConversion, Extraction, bag_to_dataset
    from disam_ros.datasets.bags.writer import BagWriter, optical_frame

__all__ = [
    "BagConversion",
    "BagImage",
    "BagImages",
    "BagReader",
    "BagWriter",
    "Extraction",
    "RawMessage",
    "TopicSummary",
    "bag_to_dataset",
    "dataset_to_bag",
    "decode_image",
    "optical_frame",
    "read_base_from_camera",
    "read_poses",
]

_MODULES = {
    "from_dataset": ("dataset_to_bag",),
    "image_messages": ("decode_image",),
    "images": ("BagImage", "BagImages"),
    "poses": ("read_base_from_camera", "read_poses"),
    "reader": ("BagReader", "RawMessage", "TopicSummary"),
    "to_dataset": ("BagConversion", "Extraction", "bag_to_dataset"),
    "writer": ("BagWriter", "optical_frame"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
