# SPDX-License-Identifier: Apache-2.0
"""Loop closures in the shapes that pose graphs take: edges between their own nodes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import Transform
from disam_ros.slam.loop_closure_message import OWN, LoopClosure

GLOBAL_CLOSURE = 1  # rtabmap's link type for loops closed by appearance
TOLERANCE_NS = 50_000_000  # between an image and the node made of it [ns]


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge from an older node to a newer one."""

    from_id: int
    to_id: int
    from_to: Transform  # pose of the newer node in the older one
    # Inverse covariance [6, 6], order x y z rotX rotY rotZ about the axes of the NEWER node, as
    # rtabmap and g2o take it.
    information: NDArray[np.float64]
    type: int = GLOBAL_CLOSURE


def edge_between(
    closure: LoopClosure, nodes: Mapping[int, int], tolerance_ns: int = TOLERANCE_NS
) -> Edge | None:
    """The edge between the nodes made of the two images.

    nodes: stamp [ns] → id. None for a loop closure with the map, of unknown scale, or without nodes
    within `tolerance_ns` of both stamps: hold it back until the newer node exists.
    """
    if closure.kind != OWN or not closure.metric:
        return None
    stamps = sorted(nodes)
    then = _nearest(stamps, closure.keyframe_stamp_ns, tolerance_ns)
    now = _nearest(stamps, closure.stamp_ns, tolerance_ns)
    if then is None or now is None:
        return None
    relative = closure.keyframe_from_base
    axes = np.kron(np.eye(2), relative.pose.rotation.T)
    information = np.linalg.inv(axes @ relative.covariance @ axes.T)
    return Edge(nodes[then], nodes[now], relative.pose, (information + information.T) / 2)


def _nearest(stamps: list[int], stamp: int, tolerance_ns: int) -> int | None:
    """The nearest of sorted stamps; None where it is farther than the tolerance."""
    after = bisect_left(stamps, stamp)
    near = [s for s in stamps[max(0, after - 1) : after + 1] if abs(s - stamp) <= tolerance_ns]
    return min(near, key=lambda s: abs(s - stamp), default=None)
