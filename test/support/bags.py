# SPDX-License-Identifier: Apache-2.0
"""Small bags of one drive."""

from pathlib import Path

import cv2
import numpy as np

from disam_ros.camera import Camera
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.poses import PoseSearch, read_odometry
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.tf import TfTree
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.image import encode_jpeg
from disam_ros.pose_buffer import sort_by_stamp

SECOND = 10**9
START = 1_700_000_000 * SECOND
STORAGES = ("mcap", "sqlite3")
CAMERA = Camera(
    32, 24, 30.0, 31.0, 16.0, 12.0, (0.1, -0.2, 0.0, 0.0, 0.3),
    Transform.from_rotation(np.array([1.0, 0.2, 1.5]), BODY_FROM_OPTICAL),
)  # fmt: skip


def picture(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth image that survives JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def pose_at(x: float, yaw: float = 0.0) -> Transform:
    return Transform.from_xyz_rpy([x, 2 * x, 0.5, 0.0, 0.0, yaw])


def write_drive(path: Path, storage: str = "mcap", count: int = 10, **frames) -> Path:
    """A drive at 1 m/s: an image every 0.1 s, poses at the same stamps."""
    with BagWriter(path, storage, **frames) as bag:
        bag.tf_static(START, {"front": CAMERA.base_from_camera})
        for i in range(count):
            stamp = START + i * SECOND // 10
            bag.camera_info("front", stamp, CAMERA)
            bag.compressed_image("front", stamp, encode_jpeg(picture(i)))
            bag.ground_truth(stamp, pose_at(i / 10))
            bag.odom(stamp, pose_at(i / 10), speed=1.0, turn_rate=0.25)
            bag.fix(stamp, 47.0, 8.5, 400.0, 2.0)
            bag.weather(stamp, "snow")
    return path


def write_images(path: Path, images: list[bytes], posed: int | None = None) -> Path:
    """Compressed images of an unknown camera, a second apart. posed: how many have poses."""
    with BagWriter(path) as bag:
        bag.tf_static(SECOND, {"front": Transform.identity()})
        for number, data in enumerate(images):
            stamp = (number + 1) * SECOND
            bag.compressed_image("front", stamp, data)
            if posed is None or number < posed:
                bag.ground_truth(stamp, Transform.from_xyz_rpy([2.0 * number, 0, 0, 0, 0, 0]))
    return path


def search_of(reader: BagReader, map_frame: str = "map", base_frame: str = "base_link"):
    """A search for the poses of a bag, over all of its time."""
    odometry = None
    if "/odom" in reader.topics():
        stamps, poses = read_odometry(reader, "/odom")
        odometry = ("/odom", sort_by_stamp(stamps, poses))
    span = (reader.start_ns, reader.end_ns)
    return PoseSearch(reader, TfTree(reader), map_frame, base_frame, span, odometry, SECOND)


def write_messages(path: Path, topic: str, stamped: list) -> Path:
    """A bag of one topic; `stamped`: (stamp_ns, message)."""
    with BagWriter(path) as bag:
        for stamp, message in stamped:
            bag.write(topic, message, stamp, messages.RELIABLE_QOS)
    return path
