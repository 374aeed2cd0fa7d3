# SPDX-License-Identifier: Apache-2.0
"""The transform tree recorded in a bag (/tf and /tf_static)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import PoseBuffer, Track

logger = logging.getLogger(__name__)
TF_TOPICS = ("/tf", "/tf_static")


@dataclass
class Edge:
    """parent_from_child over time; a static edge holds one transform that is always valid."""

    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    transforms: list[Transform] = field(default_factory=list)

    def buffer(self, max_gap_ns: int) -> PoseBuffer:
        """The transforms over time."""
        return PoseBuffer.of(self.stamps_ns, self.transforms, max_gap_ns)


def read_tree(reader: BagReader, static_only: bool = False) -> dict[str, Edge]:
    """Read child frame → edge to its parent. Transforms that are not finite are left out."""
    names = TF_TOPICS[1:] if static_only else TF_TOPICS
    present = [t for t, s in reader.topics().items() if t in names and s.type == messages.TF]
    tree: dict[str, Edge] = {}
    skipped = 0
    for raw, message in reader.messages(present):
        for transform in message.transforms:
            try:
                _add(tree, transform, static=raw.topic == "/tf_static")
            except GeometryError:
                skipped += 1
    if skipped:
        logger.warning("%s: skipped %d transforms that are not finite", reader.path, skipped)
    return tree


def chain(tree: dict[str, Edge], target: str, source: str) -> list[Edge] | None:
    """List edges from `source` up to its ancestor `target`, lowest first; None: it is none."""
    edges: list[Edge] = []
    frame = source
    while frame != target:
        if frame not in tree or len(edges) > len(tree):
            return None
        edges.append(tree[frame])
        frame = tree[frame].parent
    return edges


def static_transform(tree: dict[str, Edge], target: str, source: str) -> Transform | None:
    """Return `target_from_source` of frames joined by static edges; None: they are not."""
    for ancestor in [target, *(e.parent for e in _static_ancestors(tree, target))]:
        edges = chain(tree, ancestor, source)
        down = chain(tree, ancestor, target)
        if edges is not None and down is not None and all(e.static for e in [*edges, *down]):
            return _product(down).inverse() @ _product(edges)
    return None


def track(edges: list[Edge], max_gap_ns: int) -> tuple[Track, int]:
    """Follow a chain: its transform at each stamp of its lowest moving edge, and how many failed.

    The other moving edges are interpolated; a stamp they do not cover within `max_gap_ns` fails.
    """
    moving = {id(edge): edge.buffer(max_gap_ns) for edge in edges if not edge.static}
    lowest = next(edge for edge in edges if not edge.static)
    moments = moving[id(lowest)].track.stamps
    stamps: list[int] = []
    poses: list[Transform] = []
    for stamp in moments.tolist():
        pose = Transform.identity()
        for edge in edges:
            step = edge.transforms[-1] if edge.static else moving[id(edge)].at(stamp)
            if step is None:
                break
            pose = step @ pose
        else:
            stamps.append(stamp)
            poses.append(pose)
    return Track(np.array(stamps, dtype=np.int64), poses), len(moments) - len(stamps)


def _add(tree: dict[str, Edge], stamped: Any, static: bool) -> None:
    """Add a geometry_msgs/TransformStamped. Raises GeometryError."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    parent_from_child = Transform(
        np.array([move.x, move.y, move.z]), np.array([turn.x, turn.y, turn.z, turn.w])
    )
    parent = stamped.header.frame_id.lstrip("/")
    child = stamped.child_frame_id.lstrip("/")
    if child not in tree or tree[child].parent != parent or tree[child].static != static:
        tree[child] = Edge(parent, static)
    tree[child].stamps_ns.append(messages.stamp_ns(stamped))
    tree[child].transforms.append(parent_from_child)


def _static_ancestors(tree: dict[str, Edge], frame: str) -> list[Edge]:
    """Static edges from a frame upward."""
    edges: list[Edge] = []
    while frame in tree and tree[frame].static and len(edges) <= len(tree):
        edges.append(tree[frame])
        frame = tree[frame].parent
    return edges


def _product(edges: list[Edge]) -> Transform:
    """`ancestor_from_lowest` of static edges, lowest first."""
    pose = Transform.identity()
    for edge in edges:
        pose = edge.transforms[-1] @ pose
    return pose
