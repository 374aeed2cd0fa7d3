# SPDX-License-Identifier: Apache-2.0
"""Evaluates the running node on a drive, in the form of an offline evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.camera import mount
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import DisamError
from disam_ros.evaluation import Drive, collect
from disam_ros.evaluation.answers import QueryResult
from disam_ros.geometry import Transform
from disam_ros.localization.query import KNOWN, MISSING, UNKNOWN, UNREADABLE
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.localizer.publishers.answer_status import FAILED, PUBLISHED
from disam_ros.nodes.rclpy_extra.process import undisturbed
from disam_ros.nodes.replay.answer_bag import write_answer_bag
from disam_ros.nodes.replay.bag_topics import BagTopics, find_topics
from disam_ros.nodes.replay.node_run import NodeOptions, NodeRun, replay_to_node

TOLERANCE_M, TOLERANCE_DEG = 0.5, 5.0  # at least, median between poses and their map images'


def replay_drive(
    place_map: PlaceMap,
    model_dir: Path | str,
    bag: Path | str,
    source: ImageSource,
    name: str,
    options: NodeOptions = NodeOptions(),
    record: BagWriter | None = None,
) -> Drive:
    """Returns the localizer node's answers, over DDS, to the images of a bag.

    source: the same images, with ground truth where it is known. record: takes the answers, see
    `write_answer_bag`. A node gets the extrinsics of the source's camera where they are not the
    map's.

    The answers carry covariances as published, and as many map images as the node has candidates.
    Ctrl-C ends the drive early: the answers so far are kept and noted.
    Raises BagError (no such camera), OutputError (`record` exists), MapError, DisamError if the
    node does not start, ends early, or publishes another pose than the map image's.
    """
    topics = find_topics(bag, place_map.cameras(), options.camera, options.bag)
    source = _played(source, topics)
    mapped = mount(place_map.header.cameras, topics.mapped)
    base_from_camera = _recorded_extrinsics(source, topics) or mapped
    if base_from_camera != mapped:
        extrinsics = {"base_from_camera": _xyz_rpy(base_from_camera)}
        options = replace(options, parameters={**extrinsics, **options.parameters})
    with record or nullcontext():  # opened first: an output that exists ends it before the run
        run = replay_to_node(bag, topics, place_map.directory, model_dir, options)
        if run.interrupted and not run.answers:
            raise KeyboardInterrupt(run.interrupted)
        _check_poses(place_map, run, base_from_camera)

        def answers(images: ImageSource) -> Iterator[QueryResult]:
            return _answers(place_map, run, images, base_from_camera)

        with undisturbed():
            drive = collect(place_map, source, name, answers)
            if record is not None:
                rows = place_map.rows_of(topics.mapped)
                poses = [place_map.records[row].map_from_camera for row in rows]
                route = [pose @ mapped.inverse() for pose in poses if pose is not None]
                write_answer_bag(record, run, route, drive.source, bag, topics)
    notes = drive.notes + _notes(run)
    return replace(drive, seconds=run.seconds, run=_figures(run, options.rate), notes=notes)


def _recorded_extrinsics(source: ImageSource, topics: BagTopics) -> Transform | None:
    """Returns base_from_camera of the source's camera; None where it is unknown."""
    pose = mount(source.info.cameras, topics.camera)
    return None if pose == Transform.identity() else pose


def _xyz_rpy(pose: Transform) -> list[float]:
    """Returns x y z [m] roll pitch yaw [rad], as Transform.from_xyz_rpy takes them."""
    angles = Rotation.from_quat(pose.quaternion).as_euler("xyz")
    return [*pose.translation.tolist(), *angles.tolist()]


def _answers(
    place_map: PlaceMap, run: NodeRun, source: ImageSource, base_from_camera: Transform
) -> Iterator[QueryResult]:
    """Yields an answer per image; of an interrupted run up to the last that was answered."""
    last = len(run.sent)
    if run.interrupted:
        last = 1 + max((i for i, stamp in enumerate(run.sent) if stamp in run.answers), default=-1)
    sent = set(run.sent[:last])
    for item in source.images:
        if not run.interrupted or item.record.stamp_ns in sent:
            yield _answer(place_map, run, item, base_from_camera)
    if run.interrupted:
        raise KeyboardInterrupt(run.interrupted)  # noted by `collect`


def _answer(
    place_map: PlaceMap, run: NodeRun, item: PosedImage, base_from_camera: Transform
) -> QueryResult:
    stamp_ns = item.record.stamp_ns
    values = run.answers.get(stamp_ns, {}) if stamp_ns else {}
    outcome = values.get("outcome", MISSING)
    if outcome not in (KNOWN, UNKNOWN):
        return QueryResult(item.record, UNREADABLE if outcome == UNREADABLE else MISSING)
    ranking = tuple(place_map.records[i] for i in answer_status.ranked_ids(values))
    map_from_base = run.poses.get(stamp_ns)
    return QueryResult(
        record=item.record,
        outcome=outcome,
        domain=values["domain"],
        domain_reason=values["domain reason"],
        probability=float(values["probability"]),
        score=float(values["score"]),
        ranking=ranking,
        pose=ranking[0].map_from_camera
        if map_from_base is None
        else map_from_base @ base_from_camera,
        covariance=run.covariances.get(stamp_ns),
        timings_ms=answer_status.timings_ms(values),
        prior=answer_status.prior_effect(values),
    )


def _check_poses(place_map: PlaceMap, run: NodeRun, base_from_camera: Transform) -> None:
    """Raises DisamError unless the poses are near the map images that the node named.

    The median of the poses of single images must be within half a step of theirs. Verified poses
    may be in another lane.
    """
    gaps = []
    for stamp_ns, values in run.answers.items():
        single = "on map" not in values and "verified" not in values
        if values["outcome"] == KNOWN and stamp_ns in run.poses and single:
            matched = place_map.records[int(values["map image"])].map_from_camera
            assert matched is not None  # a map image has a pose
            gap = matched.inverse() @ run.poses[stamp_ns] @ base_from_camera
            gaps.append([*gap.translation, *Rotation.from_quat(gap.quaternion).as_rotvec()])
    median = np.median(gaps, axis=0) if gaps else np.zeros(6)
    metres, degrees = np.linalg.norm(median[:3]), np.degrees(np.linalg.norm(median[3:]))
    if metres > max(TOLERANCE_M, place_map.spacing() / 2) or degrees > TOLERANCE_DEG:
        raise DisamError(
            f"the node's poses are {metres:.2f} m, {degrees:.1f}° from those of the map images: it "
            "places the camera elsewhere on the vehicle than the map; leave its base_from_camera "
            "at zero and use_tf false, or let it use the same map"
        )


def _played(source: ImageSource, topics: BagTopics) -> ImageSource:
    """Returns the source without the cameras that are not played."""
    cameras = source.info.cameras
    if set(cameras) == {topics.camera}:
        return source
    only = {name: camera for name, camera in cameras.items() if name == topics.camera}
    played = replace(source, info=replace(source.info, cameras=only), total=topics.images)
    return played.map(lambda item: item if item.record.camera == topics.camera else None)


def _figures(run: NodeRun, rate: float) -> dict[str, object]:
    """Returns figures of the run; each image sent is in one of the counts after 'images sent'."""
    counts, facts, outcomes = run.counts, run.diagnostics, run.outcomes
    answered = outcomes[KNOWN] + outcomes[UNKNOWN]
    figures: dict[str, object] = {
        "rate": rate,
        "images sent": len(run.sent),
        "answered": answered,
        "unreadable": outcomes[UNREADABLE],
        "failed": outcomes[FAILED],
        "dropped": counts["images dropped"],
        "lost in transport": len(run.sent) - counts["images received"],
        "wall seconds": round(run.seconds, 2),
    }
    effects = Counter(map(answer_status.prior_effect, run.answers.values()))
    figures |= {f"priors {effect}": count for effect, count in effects.items() if effect}
    if run.seconds:
        figures["images per second"] = round(answered / run.seconds, 1)
    for percentile in ("p50", "p99"):
        if (key := f"{PUBLISHED} {percentile} (ms)") in facts:
            figures[f"latency {percentile} (ms)"] = float(facts[key])
    if "memory peak (MiB)" in facts:
        figures["memory peak (MiB)"] = float(facts["memory peak (MiB)"])
    return figures


def _notes(run: NodeRun) -> list[str]:
    """Describes images that were not answered as they should."""
    notes = []
    if 0 in run.sent:
        notes.append(f"{run.sent.count(0)} images carry no stamp: their answers cannot be assigned")
    if run.late:
        notes.append(f"{run.late} images were not answered in time")
    if run.outcomes[FAILED]:
        reasons = [v["reason"] for v in run.answers.values() if v["outcome"] == FAILED]
        notes.append(f"the localizer failed on {run.outcomes[FAILED]} images: {reasons[0]}")
    return notes
