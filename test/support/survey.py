# SPDX-License-Identifier: Apache-2.0
"""A vehicle that surveys: what a map builder is given, and its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo

from disam_ros.nodes.conversions import transform_to_pose
from support.data import texture
from support.maps import START_S, base_pose
from support.messages import image_message, values
from support.node_process import RELIABLE
from support.ros import Client

MOUNT = [1.0, 0.0, 1.5, -1.5707963, 0.0, -1.5707963]
K = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
# Each image is in the map at once, with intrinsics or without.
AT_ONCE = {"builder.batch_size": 1, "builder.keypoints": 0, "camera_info_timeout": 0.0}


def builder_parameters(model: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Parameters of a map builder. changes: further ones, or others."""
    return {
        "model": model,
        "output": output,
        "base_from_camera": MOUNT,
        "builder.domain": "day",
        "builder.batch_size": 2,
        "max_pose_gap": 1.5,
        **RELIABLE,
        **changes,
    }


class Survey(Client):
    """Images half-way between poses, each second; each has been handled when the next is sent."""

    def __init__(self) -> None:
        super().__init__("/map_builder")

    def camera_info(self, **fields: Any) -> None:
        self.deliver("camera_info", CameraInfo(width=64, height=48, k=K, **fields))

    def pose(
        self, second: int, kind: type = PoseStamped, topic: str = "pose", ahead: int = 0, **at: Any
    ) -> None:
        """The pose of a second. ahead: seconds that its stamp is late. at: frame and coordinates
        that it has instead."""
        message = kind()
        # One frame, as of old drivers.
        message.header.frame_id = at.pop("frame", "town" if second % 2 else "/town")
        message.header.stamp.sec = START_S + second + ahead
        holder = message if kind is PoseStamped else message.pose
        holder.pose = transform_to_pose(base_pose(second))
        for axis, value in at.items():
            setattr(holder.pose.position, axis, value)
        self.deliver(topic, message)

    def image(self, second: int, half: bool = True, **fields: Any) -> None:
        message = image_message(texture(second), second, 500_000_000 if half else 0)
        for name, value in fields.items():
            setattr(message, name, value)
        self.deliver("image", message)

    def drive(self, second: int, **fields: Any) -> None:
        """An image between two poses. fields: of the image."""
        self.pose(second)
        self.image(second, **fields)
        self.pose(second + 1)

    def holds(self, count: int) -> None:
        """Return once the map has so many images."""
        self.diagnosis(
            lambda s: values(s).get("images in map") == str(count), f"{count} images in the map"
        )
