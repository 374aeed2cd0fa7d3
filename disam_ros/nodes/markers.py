# SPDX-License-Identifier: Apache-2.0
"""RViz markers of the candidates."""

from __future__ import annotations

from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from disam_ros.geometry import Transform
from disam_ros.nodes.conversions import transform_to_pose

ARROW = (2.0, 0.3, 0.3)  # length, width, height in metres
TEXT_HEIGHT = 0.8  # metres
TEXT_ABOVE = 1.5  # metres above the pose

GREEN = ColorRGBA(r=0.1, g=0.8, b=0.2, a=1.0)
GREY = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.8)
ORANGE = ColorRGBA(r=1.0, g=0.6, b=0.1, a=0.8)


def candidate_markers(
    poses: list[Transform], scores: list[float], known: bool, header: Header
) -> MarkerArray:
    """Arrows at the candidates (`map_from_base`, best first) with their fine scores.

    The best is green, the others orange; all are grey while the place is unknown. The first marker
    removes those of the image before.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for rank, (pose, score) in enumerate(zip(poses, scores, strict=True)):
        color = (GREEN if rank == 0 else ORANGE) if known else GREY
        arrow = Marker(header=header, ns="candidates", id=rank, type=Marker.ARROW, color=color)
        arrow.pose = transform_to_pose(pose)
        arrow.scale.x, arrow.scale.y, arrow.scale.z = ARROW
        text = Marker(header=header, ns="scores", id=rank, color=color, text=f"{score:.2f}")
        text.type = Marker.TEXT_VIEW_FACING
        text.pose = transform_to_pose(pose)
        text.pose.position.z += TEXT_ABOVE
        text.scale.z = TEXT_HEIGHT
        markers += [arrow, text]
    return MarkerArray(markers=markers)
