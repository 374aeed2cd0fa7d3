# SPDX-License-Identifier: Apache-2.0
"""The transform tree recorded in a bag."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import PoseBuffer, Track

logger = logging.getLogger(__name__)
STATIC, MOVING = "tf_static", "tf"  # last names of the topics
BASE = "base_link"
WORLDS = {"map", "odom", "world", "earth", "utm", "local_map"}  # frames that no vehicle carries
UNIT = 1e-2  # largest deviation of the length of a quaternion from 1
STILL_METRES, STILL_DEGREES = 1e-4, 0.05  # largest change of an edge that never changes


@dataclass
class Edge:
    """parent_from_child over time; a static edge holds one transform that is always valid."""

    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    rows: list[tuple[float, ...]] = field(default_factory=list)  # tx ty tz qx qy qz qw

    @cached_property
    def transforms(self) -> list[Transform]:
        """parent_from_child at each stamp; made of the edges that are used, for bags hold many."""
        return [Transform(np.array(row[:3]), np.array(row[3:])) for row in self.rows]

    def buffer(self, max_gap_ns: int) -> PoseBuffer:
        """The transforms over time."""
        return PoseBuffer.of(self.stamps_ns, self.transforms, max_gap_ns)

    @cached_property
    def is_fixed(self) -> bool:
        """Whether its transform never changes."""
        if self.static:
            return True
        table = np.array(self.rows)
        places, turns = table[:, :3], table[:, 3:]
        turns = turns / np.linalg.norm(turns, axis=1, keepdims=True)
        cosines = np.abs(turns @ turns[0]).clip(0.0, 1.0)  # of half the angles
        still = np.degrees(2 * np.arccos(cosines)) <= STILL_DEGREES
        return bool(still.all() and (np.abs(places - places[0]) <= STILL_METRES).all())


Tree = dict[str, Edge]  # edge to the parent by the name of the child frame


class TfTree:
    """The transform tree of a bag, read when it is first asked for.

    near: topics; of several vehicles' trees the one whose namespace begins one of them is taken.
    """

    def __init__(self, reader: BagReader, near: Sequence[str] = ()) -> None:
        self._reader = reader
        names = [
            topic
            for topic, summary in reader.topics().items()
            if summary.type in messages.TF_TYPES and _last(topic) in (STATIC, MOVING)
        ]
        spaces = {_space(topic) for topic in names}
        if len(spaces) > 1 and near:
            spaces = {s for s in spaces if any(topic.startswith(f"{s}/") for topic in near)}
        self.topics = [topic for topic in names if _space(topic) in spaces]

    @cached_property
    def static(self) -> Tree:
        """Edges of the static topics."""
        return self._read([topic for topic in self.topics if _last(topic) == STATIC])

    @cached_property
    def whole(self) -> Tree:
        """All edges."""
        return self._read(self.topics)

    def fixed(self, target: str, source: str) -> Transform | None:
        """Return `target_from_source` of frames that are fixed to each other; None: they are not.

        Static edges come first, then those of moving topics that never change.
        """
        if target == source:
            return Transform.identity()
        transform = _fixed(self.static, target, source)
        return _fixed(self.whole, target, source) if transform is None else transform

    def base_frame(self, camera_frame: str = "") -> str:
        """Name the vehicle's frame.

        base_link, with the prefix of the camera's frame if there are several; where there is none,
        the highest frame that the camera is fixed to.
        """
        for tree in (self.static, self.whole):
            frames = {*tree, *(edge.parent for edge in tree.values())}
            bases = sorted(frame for frame in frames if _last(frame) == BASE)
            alike = [frame for frame in bases if camera_frame.startswith(frame.removesuffix(BASE))]
            if bases:
                return (alike or bases)[0] if BASE not in bases else BASE
        frame = camera_frame
        for _ in self.whole:
            edge = self.whole.get(frame)
            if edge is None or not edge.is_fixed or _last(edge.parent) in WORLDS:
                break
            frame = edge.parent
        return frame if frame != camera_frame else BASE

    def root(self, frame: str) -> str:
        """Name the highest ancestor of a frame."""
        for _ in self.whole:
            if frame not in self.whole:
                break
            frame = self.whole[frame].parent
        return frame

    def moving_chain(self, target: str, source: str) -> list[Edge]:
        """List edges from `source` up to its ancestor `target`; none where nothing moves."""
        edges = chain(self.whole, target, source) or []
        return [] if all(edge.static for edge in edges) else edges

    def edges_text(self) -> str:
        """List all edges for a message."""
        return ", ".join(f"{edge.parent}→{child}" for child, edge in self.whole.items())

    def _read(self, topics: list[str]) -> Tree:
        tree: Tree = {}
        skipped = 0
        for raw, message in self._reader.messages(topics) if topics else ():
            is_static = _last(raw.topic) == STATIC
            skipped += sum(not _add(tree, stamped, is_static) for stamped in message.transforms)
        if skipped:
            logger.warning(
                "%s: skipped %d transforms that are not finite", self._reader.path, skipped
            )
        return tree


def chain(tree: Mapping[str, Edge], target: str, source: str) -> list[Edge] | None:
    """List edges from `source` up to its ancestor `target`, lowest first; None: it is none."""
    edges: list[Edge] = []
    frame = source
    while frame != target:
        if frame not in tree or len(edges) > len(tree):
            return None
        edges.append(tree[frame])
        frame = tree[frame].parent
    return edges


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


def _fixed(tree: Tree, target: str, source: str) -> Transform | None:
    """`target_from_source` by edges of a tree that never change."""
    ancestors = [target]
    while (edge := tree.get(ancestors[-1])) and edge.is_fixed and len(ancestors) <= len(tree):
        ancestors.append(edge.parent)
    for ancestor in ancestors:
        up, down = chain(tree, ancestor, source), chain(tree, ancestor, target)
        if up is not None and down is not None and all(e.is_fixed for e in [*up, *down]):
            return _product(down).inverse() @ _product(up)
    return None


def _add(tree: Tree, stamped: Any, static: bool) -> bool:
    """Add a geometry_msgs/TransformStamped. False, and it is left out, where it is no transform."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    row = (move.x, move.y, move.z, turn.x, turn.y, turn.z, turn.w)
    norm = math.hypot(*row[3:])
    if not (all(map(math.isfinite, row)) and abs(norm - 1.0) <= UNIT):
        return False
    parent, child = messages.frame(stamped.header.frame_id), messages.frame(stamped.child_frame_id)
    edge = tree.get(child)
    if edge is None or edge.parent != parent or edge.static != static:
        edge = tree[child] = Edge(parent, static)
    edge.stamps_ns.append(messages.stamp_ns(stamped))
    edge.rows.append(row)
    return True


def _product(edges: list[Edge]) -> Transform:
    """`ancestor_from_lowest` of fixed edges, lowest first."""
    pose = Transform.identity()
    for edge in edges:
        pose = edge.transforms[-1] @ pose
    return pose


def _last(name: str) -> str:
    """The last element of the name of a topic or frame."""
    return name.rsplit("/", 1)[-1]


def _space(topic: str) -> str:
    """The namespace of a topic, without a slash at its end."""
    return topic.rpartition("/")[0]
