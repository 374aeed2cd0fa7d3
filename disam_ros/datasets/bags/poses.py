# SPDX-License-Identifier: Apache-2.0
"""Poses of the vehicle, `map_from_base`, in a bag: which of its topics tell them, and best.

In this order, where they cover equally much of the drive: TF, odometry in the map frame, topics of
poses, sparse corrections continued by odometry; then what is in another frame, which may drift. TF
is read only where no topic in the map frame covers the drive.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.tf import TfTree, track
from disam_ros.errors import BagError, GeometryError
from disam_ros.geometry import Transform
from disam_ros.plausibility import without_strays
from disam_ros.pose_buffer import NANOSECONDS, PoseBuffer, Track, sort_by_stamp

logger = logging.getLogger(__name__)

TF = "/tf"
GROUND_TRUTH = "/ground_truth/pose"
POSE_TYPES = (
    messages.POSE,
    messages.POSE_WITH_COVARIANCE,
    messages.TRANSFORM,
    messages.ODOMETRY,
)
# Begin words of names of topics that tell where a vehicle shall go, or may be, or what this package
# answered.
INTENTIONS = ("goal", "target", "setpoint", "initial", "waypoint", "clicked", "desired", "command")
INTENTION_WORDS = {"cmd", "plan", "prior", "localizer"}
DENSE = 0.9  # share of the images' time from which other sources need not be looked for
LEAST_COVERED = 0.5  # share of the images' time that the poses of a drive cover
ALIKE = 0.1  # difference of such shares within which sources cover equally much
MANY_SKIPPED = 0.1  # share of a source's poses whose absence is a warning
JUMP_METRES, JUMP_SPEED = 2.0, 60.0  # of a step that no vehicle drives [m], [m/s]
JUMPS = 3  # steps of that kind that are excused
CONTINUED = 5.0  # distance over which odometry continues a correction [m]
DISAGREE = 1.0  # median distance between sources that is reported [m]
MAP, OTHER = 0, 1  # ranks of frames
KINDS = ("TF", "odometry", "poses", "corrections")


@dataclass(frozen=True)
class PoseCandidate:
    """Poses of one source in a bag."""

    name: str  # its topic
    kind: str  # of KINDS
    frame: str  # whose axes the poses are given in
    track: Track
    skipped: int = 0  # poses that are not finite
    strays: str = ""  # what was left out of the track; empty: nothing
    covered: float = 0.0  # share of the images' time that is covered
    fault: str = ""  # why it is no drive; empty: it is one
    odometry: str = ""  # topic of the odometry that continues corrections

    @property
    def option(self) -> str:
        """The option that takes it."""
        return f"--pose-topic {self.name}"

    def text(self) -> str:
        """A line about it."""
        by = f" continued by {self.odometry}" if self.odometry else ""
        fault = f": {self.fault}" if self.fault else ""
        return (
            f"{self.name}{by} ({len(self.track.stamps)} poses in '{self.frame}', "
            f"{100 * self.covered:.0f} % of the time{fault})"
        )


@dataclass(frozen=True)
class PoseSearch:
    """What is known of a bag where its poses are looked for."""

    reader: BagReader
    tree: TfTree
    map_frame: str
    base_frame: str
    span: tuple[int, int]  # stamps of the first and the last image [ns]
    odometry: tuple[str, Track] | None  # topic and odom_from_base; None: there is none
    max_gap_ns: int  # longest time between poses across which is interpolated


def find_poses(search: PoseSearch) -> list[PoseCandidate]:
    """Find all sources of poses in a bag, the best first. What tells of intentions is left out."""
    reader, candidates = search.reader, []
    summaries = reader.topics()
    for topic in reader.topics_of(*POSE_TYPES):
        if is_intention(topic) or summaries[topic].count < 2:
            continue
        candidate = _judged(_by_topic(reader, topic), search)
        candidates.append(candidate)
        is_sparse = candidate.kind == "poses" and candidate.covered < 1 - LEAST_COVERED / 2
        if is_sparse and search.odometry and len(candidate.track.stamps) > 1:
            candidates.append(_judged(_continued(candidate, search.odometry), search))
    if not any(_suffices(candidate, search.map_frame) for candidate in candidates):
        for target in dict.fromkeys([search.map_frame, search.tree.root(search.base_frame)]):
            if by_tf := _by_tf(search, target):
                candidates.append(by_tf)
                break
    most = max((c.covered for c in candidates if not c.fault), default=0.0)
    return sorted(candidates, key=lambda candidate: _preference(candidate, search.map_frame, most))


def _suffices(candidate: PoseCandidate, map_frame: str) -> bool:
    """Whether a source is as good as TF, so that TF, which may be long, need not be read."""
    dense = candidate.kind != "corrections" and candidate.covered >= DENSE
    return dense and candidate.frame == map_frame and not candidate.fault


def is_intention(topic: str) -> bool:
    """Whether a topic's name tells that its poses are no measured ones: goals, answers."""
    words = re.split(r"[/_]+", topic.lower())
    return any(word.startswith(INTENTIONS) or word in INTENTION_WORDS for word in words)


def read_topic(reader: BagReader, topic: str) -> Track:
    """Read the poses of a topic as they are, without those that are not finite."""
    return _by_topic(reader, topic).track


def read_poses(search: PoseSearch, topic: str = "", any_frame: bool = True) -> Track:
    """Read `map_from_base` of a drive, its stamps strictly increasing.

    topic: a topic of poses or odometry, or '/tf' for the chain from the base up to the map frame;
    empty: the best (`find_poses`). any_frame: take poses whose frame is not the map frame as if it
    were, with a warning. Poses that are not finite are skipped and counted in the log.

    Raises BagError where there is no such topic, fewer than two poses, or another frame than asked.
    """
    path = search.reader.path
    chosen = _named(search, topic) if topic else _chosen(search, any_frame)
    if chosen.frame != search.map_frame:
        if not any_frame:
            raise BagError(
                f"bag {path}: poses of {chosen.name} are given in frame '{chosen.frame}', expected "
                f"'{search.map_frame}'; name a topic with poses in that frame"
            )
        logger.warning(
            "%s: poses of %s are given in frame '%s' and are taken as '%s'%s%s",
            path,
            chosen.name,
            chosen.frame,
            search.map_frame,
            "; odometry drifts" if chosen.kind == "odometry" or chosen.frame == "odom" else "",
            f"; --map-frame {chosen.frame} keeps its name" if chosen.frame else "",
        )
    if chosen.skipped:
        total = len(chosen.track.stamps) + chosen.skipped
        level = logging.WARNING if chosen.skipped > MANY_SKIPPED * total else logging.INFO
        logger.log(
            level,
            "%s: skipped %d poses of %s: %s",
            path,
            chosen.skipped,
            chosen.name,
            "the transforms above them pause there" if chosen.kind == "TF" else "not finite",
        )
    if chosen.strays:
        logger.warning("%s: %s: %s", path, chosen.name, chosen.strays)
    if len(chosen.track.stamps) < 2:
        raise BagError(
            f"bag {path}: {chosen.name} yields {len(chosen.track.stamps)} usable poses, at least 2 "
            "are needed; name another pose topic"
        )
    return chosen.track


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


def _chosen(search: PoseSearch, any_frame: bool) -> PoseCandidate:
    """The best source. Raises BagError where there is none."""
    path, candidates = search.reader.path, find_poses(search)
    drives = [candidate for candidate in candidates if not candidate.fault]
    in_map = [candidate for candidate in drives if candidate.frame == search.map_frame]
    eligible = drives if any_frame else in_map or drives
    if not eligible:
        listed = "; ".join(candidate.text() for candidate in candidates)
        if listed:
            raise BagError(
                f"bag {path} holds no poses of a drive, but {listed}: name the source with "
                "--pose-topic, or give poses with --trajectory"
            )
        raise BagError(
            f"bag {path} holds no poses: no PoseStamped, PoseWithCovarianceStamped or Odometry, "
            f"and no /tf from {search.base_frame} to {search.map_frame}. It holds: "
            f"{search.reader.listing()}"
        )
    best = eligible[0]
    logger.info("%s: poses come from %s", path, best.text())
    if 0 < best.covered < LEAST_COVERED:
        logger.warning(
            "%s: the poses of %s cover %.0f %% of the time of the images; others: %s",
            path,
            best.name,
            100 * best.covered,
            "; ".join(other.text() for other in candidates if other is not best) or "none",
        )
    for other in eligible[1:]:
        if other.frame == best.frame and other.name != best.name and best.frame == search.map_frame:
            _compare(path, best, other, search.max_gap_ns)
    return best


def _compare(path: Any, best: PoseCandidate, other: PoseCandidate, max_gap_ns: int) -> None:
    """Warn where two sources in one frame are apart."""
    gaps = gaps_between(best.track, other.track, max_gap_ns)
    if len(gaps) and np.median(gaps) > DISAGREE:
        logger.warning(
            "%s: %s (%d poses) and %s (%d) are apart by %.1f m (median): %s is taken; %s takes the "
            "other",
            path,
            best.name,
            len(best.track.stamps),
            other.name,
            len(other.track.stamps),
            float(np.median(gaps)),
            best.name,
            other.option,
        )


def gaps_between(track: Track, other: Track, max_gap_ns: int) -> NDArray[np.float64]:
    """Distances [M] [m] between two tracks where both have a pose, at most a hundred."""
    buffer = PoseBuffer.of(*track, max_gap_ns)
    rows = np.unique(np.linspace(0, len(other.stamps) - 1, 100).round().astype(int))
    pairs = [(buffer.at(int(other.stamps[row])), other.poses[row]) for row in rows]
    return np.array(
        [np.linalg.norm(a.translation - b.translation) for a, b in pairs if a is not None]
    )


def _named(search: PoseSearch, topic: str) -> PoseCandidate:
    """The source that a user names. Raises BagError."""
    if topic.strip("/") in ("tf", "tf_static") or topic in search.tree.topics:
        candidate = _by_tf(search, search.map_frame)
        if candidate is None:
            raise BagError(
                f"bag {search.reader.path}: /tf does not lead from {search.base_frame} up to a "
                f"moving {search.map_frame}; it holds: {search.tree.edges_text() or 'nothing'}. "
                "Name the frames with --map-frame and --base-frame, or another pose topic"
            )
        return candidate
    summary = search.reader.topics().get(topic)
    if summary is not None and summary.type not in POSE_TYPES:
        raise BagError(f"{topic} carries {summary.type}, which is no pose; expected {POSE_TYPES}")
    candidate = _judged(_by_topic(search.reader, topic), search)
    is_sparse = candidate.kind == "poses" and candidate.covered < LEAST_COVERED
    if is_sparse and search.odometry and len(candidate.track.stamps) > 1:
        continued = _judged(_continued(candidate, search.odometry), search)
        if continued.covered > 2 * candidate.covered:
            logger.info("%s: %s", search.reader.path, continued.text())
            return continued
    return candidate


def _by_tf(search: PoseSearch, target: str) -> PoseCandidate | None:
    """Poses by the chain from the base up to a frame; None where nothing moves on it."""
    edges = search.tree.moving_chain(target, search.base_frame)
    if not edges:
        return None
    poses, failed = track(edges, max(search.max_gap_ns, NANOSECONDS))
    return _judged(PoseCandidate(TF, "TF", target, poses, failed), search)


def _by_topic(reader: BagReader, topic: str) -> PoseCandidate:
    """Poses of a topic. Raises BagError for one that the bag lacks."""
    stamps: list[int] = []
    poses: list[Transform] = []
    skipped, kind, frames = 0, "poses", list[str]()
    for raw, message in reader.messages([topic]):
        kind = "odometry" if raw.type == messages.ODOMETRY else "poses"
        try:
            poses.append(_pose_of(message))
        except GeometryError:
            skipped += 1
        else:
            stamps.append(messages.stamp_ns(message))
            frames.append(messages.frame(message.header.frame_id))
    frame = max(sorted(set(frames)), key=frames.count) if frames else ""
    return PoseCandidate(topic, kind, frame, sort_by_stamp(stamps, poses), skipped)


def _continued(corrections: PoseCandidate, odometry: tuple[str, Track]) -> PoseCandidate:
    """Sparse poses continued by odometry: map_from_odom is interpolated between corrections.

    As between `map → odom` and odometry in a localization stack (REP 105).
    """
    topic, drive = odometry
    moving = PoseBuffer.of(*drive, NANOSECONDS)
    fixed: list[tuple[int, Transform, float]] = []  # stamp, map_from_odom, distance travelled
    for stamp, pose in zip(corrections.track.stamps.tolist(), corrections.track.poses, strict=True):
        if sample := moving.sample(stamp):
            fixed.append((stamp, pose @ sample.pose.inverse(), sample.travelled))
    stamps: list[int] = []
    poses: list[Transform] = []
    if fixed:
        times = [row[0] for row in fixed]
        map_from_odom = PoseBuffer.of(times, [row[1] for row in fixed], times[-1] - times[0] + 1)
        travelled = np.array([row[2] for row in fixed])
        for stamp, pose in zip(drive.stamps.tolist(), drive.poses, strict=True):
            sample = moving.sample(stamp)
            if sample is None or np.abs(travelled - sample.travelled).min() > CONTINUED:
                continue
            frame = map_from_odom.at(min(max(stamp, times[0]), times[-1]))
            if frame is not None:
                stamps.append(stamp)
                poses.append(frame @ pose)
    return replace(
        corrections,
        kind="corrections",
        track=sort_by_stamp(stamps, poses),
        odometry=topic,
    )


def _judged(candidate: PoseCandidate, search: PoseSearch) -> PoseCandidate:
    """A candidate with the share of time that it covers, and its fault."""
    drive, strays = without_strays(candidate.track)
    candidate = replace(candidate, track=drive, strays=strays)
    stamps, (first, last) = drive.stamps, search.span
    covered = 0.0
    if len(stamps) > 1:
        steps = np.diff(stamps)
        gap = max(search.max_gap_ns, 1)
        inside = np.minimum(stamps[1:], last) - np.maximum(stamps[:-1], first)
        covered = float(inside[(steps <= gap) & (inside > 0)].sum()) / max(last - first, 1)
    return replace(candidate, covered=min(covered, 1.0), fault=_jumps(drive))


def _jumps(drive: Track) -> str:
    """Why a track is none of a vehicle; empty: it is one."""
    if len(drive.stamps) < 2:
        return f"{len(drive.stamps)} usable poses"
    places = np.stack([pose.translation for pose in drive.poses])
    metres = np.linalg.norm(np.diff(places, axis=0), axis=1)
    seconds = np.diff(drive.stamps) / NANOSECONDS
    jumps = int(((metres > JUMP_METRES) & (metres > JUMP_SPEED * seconds)).sum())
    if jumps > JUMPS and jumps > 0.01 * len(metres):
        return f"it jumps {jumps} times faster than {JUMP_SPEED:g} m/s"
    return ""


def _preference(candidate: PoseCandidate, map_frame: str, most: float) -> tuple[Any, ...]:
    """A key that sorts sources, the best first. most: the largest share that one covers."""
    frame = MAP if candidate.frame == map_frame else OTHER
    return (
        bool(candidate.fault),
        candidate.name != GROUND_TRUTH,
        candidate.covered < LEAST_COVERED,
        frame,
        frame == OTHER and candidate.kind == "odometry",
        int((most - candidate.covered) / ALIKE),
        KINDS.index(candidate.kind),
        -len(candidate.track.stamps),
    )


def _pose_of(message: Any) -> Transform:
    """The pose in a message. Raises GeometryError."""
    if message.__msgtype__ == messages.TRANSFORM:
        at, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message.pose if message.__msgtype__ == messages.POSE else message.pose.pose
        at, turn = pose.position, pose.orientation
    return Transform(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
