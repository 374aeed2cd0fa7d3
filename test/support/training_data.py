# SPDX-License-Identifier: Apache-2.0
"""Small training data: folders per domain, drives, fixed cameras."""

import cv2
import numpy as np

from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from support.data import CAMERA, camera_pose, texture


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def write_folders(root, counts=(("day", 3), ("night", 4))):
    """A folder per domain."""
    for number, (domain, count) in enumerate(counts):
        for k in range(count):
            write_image(root / domain / f"{k}.png", texture(100 * number + k))
    return root


def write_drive(directory, domain, count, shift=0.0):
    """A dataset of one drive: an image every 20 m, `shift` metres further on."""
    with DatasetWriter(directory, DatasetInfo(domain, {"front": CAMERA})) as writer:
        for k in range(count):
            image = texture(k) if domain == "day" else texture(k) // 3
            data = cv2.imencode(".png", image)[1].tobytes()
            pose = camera_pose(20 * k + shift)
            writer.add(data, (k + 1) * 10**9, "front", domain, pose)
    return directory


def write_webcams(root, cameras=2, count=8):
    """Fixed cameras; nights have a dark sky and lamps so bright that the mean is a day's."""
    for camera in range(cameras):
        view = texture(camera)
        for k in range(count):
            day = np.clip(view.astype(int) // 3 + 120 + k, 0, 255).astype(np.uint8)
            night = (view // 8).copy()
            night[24:] = np.clip(night[24:].astype(int) + 220 + k, 0, 255)
            write_image(root / f"cam{camera}" / f"{k:02}.png", day if k % 2 else night)
    return root
