# SPDX-License-Identifier: Apache-2.0
"""Poses of the vehicle (`map_from_base`) and extrinsics of its cameras, read from a bag."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.bags import messages, tf
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.errors import BagError, GeometryError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.pose_buffer import NANOSECONDS, Track, sort_by_stamp

logger = logging.getLogger(__name__)

GROUND_TRUTH = "/ground_truth/pose"
POSE_TYPES = (messages.POSE, messages.POSE_WITH_COVARIANCE, messages.ODOMETRY)


def read_poses(
    reader: BagReader,
    topic: str | None = None,
    *,
    map_frame: str = "map",
    base_frame: str = "base_link",
    max_gap_ns: int = NANOSECONDS,
    any_frame: bool = True,
) -> Track:
    """Read `map_from_base` of a drive, its stamps strictly increasing.

    topic: a PoseStamped, PoseWithCovarianceStamped or Odometry topic, or '/tf' for the chain
    from `base_frame` up to `map_frame`. None chooses, in this order: /ground_truth/pose, the
    PoseStamped (then the PoseWithCovarianceStamped) topic with most messages, /tf where it leads
    to the map, Odometry, which drifts. Poses that are not finite are skipped and counted in the
    log. max_gap_ns: longest gap over which an edge of the tf chain is interpolated. any_frame:
    take poses whose frame is not `map_frame` as if it were, with a warning.

    Raises BagError where there is no such topic, fewer than two poses, or another frame than asked.
    """
    if topic is None:
        topic = choose_pose_topic(reader, map_frame, base_frame)
        logger.info("%s: poses come from %s", reader.path, topic)
    if topic in tf.TF_TOPICS:
        track, skipped = _from_tf(reader, map_frame, base_frame, max_gap_ns)
    else:
        track, skipped = _from_topic(reader, topic, map_frame, any_frame)
    if skipped:
        logger.warning(
            "%s: skipped %d poses of %s that cannot be used", reader.path, skipped, topic
        )
    if len(track.poses) < 2:
        raise BagError(
            f"bag {reader.path}: {topic} yields {len(track.poses)} usable poses, at least 2 are "
            "needed; name another pose topic"
        )
    return track


def choose_pose_topic(reader: BagReader, map_frame: str, base_frame: str) -> str:
    """Choose the pose topic (`read_poses`). Raises BagError where there is none."""
    topics = reader.topics()
    if GROUND_TRUTH in topics and topics[GROUND_TRUTH].type in POSE_TYPES:
        return GROUND_TRUTH
    for kind in (messages.POSE, messages.POSE_WITH_COVARIANCE):
        # One message is a goal or an initial guess, not a drive.
        drives = [topic for topic in reader.topics_of(kind) if topics[topic].count > 1]
        if drives:
            return drives[0]
    edges = tf.chain(tf.read_tree(reader), map_frame, base_frame)
    if edges and not all(edge.static for edge in edges):
        return "/tf"
    odometry = reader.topics_of(messages.ODOMETRY)
    if odometry:
        return odometry[0]
    held = ", ".join(f"{name} ({s.type})" for name, s in topics.items())
    raise BagError(
        f"bag {reader.path} holds no poses: no PoseStamped, PoseWithCovarianceStamped or Odometry, "
        f"and no /tf from {base_frame} to {map_frame}. It holds: {held or 'nothing'}"
    )


def read_odometry(
    reader: BagReader, topic: str
) -> tuple[NDArray[np.int64], list[Transform | None]]:
    """Read stamps [N] [ns] and odom_from_base of all messages in recorded order.

    None stands for a pose where it or the twist is not finite.
    """
    stamps: list[int] = []
    poses: list[Transform | None] = []
    for _, message in reader.messages([topic]):
        twist = message.twist.twist
        speeds = [getattr(v, axis) for v in (twist.linear, twist.angular) for axis in "xyz"]
        pose = None
        with suppress(GeometryError):
            pose = _pose_of(message) if np.isfinite(speeds).all() else None
        stamps.append(messages.stamp_ns(message))
        poses.append(pose)
    return np.array(stamps, dtype=np.int64), poses


def read_base_from_camera(
    reader: BagReader, camera_frame: str, base_frame: str = "base_link"
) -> Transform | None:
    """Read the pose of an optical camera frame on the vehicle from /tf_static; None: not there."""
    tree = tf.read_tree(reader, static_only=True)
    return tf.static_transform(tree, base_frame, camera_frame.lstrip("/"))


def forward_camera() -> Transform:
    """`base_from_camera` of a camera at the base's origin that looks ahead."""
    return Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


def _from_tf(
    reader: BagReader, map_frame: str, base_frame: str, max_gap_ns: int
) -> tuple[Track, int]:
    """Read poses of /tf and how many were skipped. Raises BagError."""
    tree = tf.read_tree(reader)
    edges = tf.chain(tree, map_frame, base_frame)
    if not edges or all(edge.static for edge in edges):
        held = ", ".join(f"{edge.parent}→{child}" for child, edge in tree.items())
        raise BagError(
            f"bag {reader.path}: /tf does not lead from {base_frame} up to a moving {map_frame}; "
            f"it holds: {held or 'nothing'}. Name the frames or another pose topic"
        )
    return tf.track(edges, max_gap_ns)


def _from_topic(
    reader: BagReader, topic: str, map_frame: str, any_frame: bool
) -> tuple[Track, int]:
    """Read poses of a topic and how many were skipped. Raises BagError."""
    held = reader.topics().get(topic)
    if held is not None and held.type not in POSE_TYPES:
        raise BagError(f"{topic} carries {held.type}, which is no pose; expected {POSE_TYPES}")
    stamps: list[int] = []
    poses: list[Transform] = []
    skipped = 0
    other_frames: set[str] = set()
    for _, message in reader.messages([topic]):
        if message.header.frame_id.lstrip("/") != map_frame:
            other_frames.add(message.header.frame_id)
        try:
            poses.append(_pose_of(message))
        except GeometryError:
            skipped += 1
        else:
            stamps.append(messages.stamp_ns(message))
    if other_frames and not any_frame:
        raise BagError(
            f"bag {reader.path}: poses of {topic} are given in frame {sorted(other_frames)}, "
            f"expected '{map_frame}'; name a topic with poses in that frame"
        )
    if other_frames:
        logger.warning(
            "%s: poses of %s are given in frame %s and are taken as '%s'; odometry drifts",
            reader.path,
            topic,
            sorted(other_frames),
            map_frame,
        )
    return sort_by_stamp(stamps, poses), skipped


def _pose_of(message: Any) -> Transform:
    """The pose in a message. Raises GeometryError."""
    pose = message.pose if message.__msgtype__ == messages.POSE else message.pose.pose
    at, turn = pose.position, pose.orientation
    return Transform(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
