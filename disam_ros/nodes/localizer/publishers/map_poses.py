# SPDX-License-Identifier: Apache-2.0
"""~/map_poses: where the map's images were taken, for displays."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from disam_ros.camera import mount
from disam_ros.geometry import Transform, compose
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

MOST = 2000  # poses; of larger maps every second, third, … image


class MapPoses(Part):
    """Publishes the poses of the map images, latched: late subscribers get them, too."""

    def __init__(self, node: LifecycleNode, monitor: Monitor) -> None:
        super().__init__(node, monitor)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._poses = self._publisher(PoseArray, "~/map_poses", latched)

    def publish(self, place_map: PlaceMap) -> None:
        """Publishes the poses of a map."""
        header = Header(
            frame_id=place_map.header.map_frame, stamp=self._node.get_clock().now().to_msg()
        )
        poses = [Transform(row[:3], row[3:]) for row in thinned(place_map)]
        self._poses.publish(conversions.pose_array(poses, header))


def thinned(place_map: PlaceMap) -> NDArray[np.float64]:
    """`map_from_base` [n, 7] of at most MOST images, evenly: tx … qw."""
    poses = []
    for camera in place_map.cameras():
        rows = place_map.rows_of(camera)
        share = max(1, MOST // len(place_map.cameras()))
        rows = rows[:: -(-len(rows) // share)]
        camera_from_base = mount(place_map.header.cameras, camera).inverse()
        poses.append(compose(place_map.poses[rows], camera_from_base))
    return np.concatenate(poses)
