# SPDX-License-Identifier: Apache-2.0
"""rosbag2 recordings (mcap and sqlite3) in and out; needs no ROS."""

from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.images import BagImage, BagImages
from disam_ros.datasets.bags.poses import read_base_from_camera, read_poses
from disam_ros.datasets.bags.reader import BagReader, RawMessage, TopicSummary
from disam_ros.datasets.bags.to_dataset import BagConversion, bag_to_dataset
from disam_ros.datasets.bags.writer import BagWriter, optical_frame

__all__ = [
    "BagConversion",
    "BagImage",
    "BagImages",
    "BagReader",
    "BagWriter",
    "RawMessage",
    "TopicSummary",
    "bag_to_dataset",
    "dataset_to_bag",
    "decode_image",
    "optical_frame",
    "read_base_from_camera",
    "read_poses",
]
