# SPDX-License-Identifier: Apache-2.0
"""Messages as a robot would send them, and what those of the nodes say."""

from __future__ import annotations

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage, Image

from disam_ros.geometry import Transform
from disam_ros.nodes.conversions import transform_to_pose
from support.maps import START_S


def values(status: DiagnosticStatus) -> dict[str, str]:
    """The key-value pairs of a status."""
    return {pair.key: pair.value for pair in status.values}


def image_message(
    image: np.ndarray, second: int = 0, nanosecond: int = 0, frame: str = "camera"
) -> Image:
    """An rgb8 message, stamped START_S + second."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8")
    message.step = 3 * message.width
    message.data = image.tobytes()
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = START_S + second, nanosecond
    return message


def compressed_message(image: np.ndarray, second: int = 0, form: str = ".png") -> CompressedImage:
    """A compressed message, stamped START_S + second."""
    message = CompressedImage(format=form.removeprefix("."))
    message.data = cv2.imencode(form, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    message.header.stamp.sec = START_S + second
    return message


def odometry_message(odom_from_base: Transform, second: int = 0) -> Odometry:
    """Odometry in the frame odom, stamped START_S + second."""
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id, message.header.stamp.sec = "odom", START_S + second
    message.pose.pose = transform_to_pose(odom_from_base)
    return message
