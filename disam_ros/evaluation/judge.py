# SPDX-License-Identifier: Apache-2.0
"""Evaluates the answers to drives against their true poses, by condition and overall."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from disam_ros.camera import mount, mount_difference
from disam_ros.evaluation.answers import QueryResult
from disam_ros.evaluation.baselines import nearest
from disam_ros.evaluation.confidence import (
    Consistency,
    PrecisionRecall,
    consistency,
    precision_recall,
)
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.frames import Counts, EvaluatedFrame, constant_errors, count, estimates
from disam_ros.evaluation.metrics import DEFAULTS, Criteria, Metrics, errors, score
from disam_ros.geometry import Transform
from disam_ros.localization.query import KNOWN
from disam_ros.mapping.place_map import PlaceMap

OVERALL = "overall"
PERCENTILES = (50, 90, 99)
CONSISTENT = (0.4, 2.5)  # position NEES over its expectation that needs no note


@dataclass(frozen=True)
class Condition:
    """Frames of one condition, in order, and their figures; None where there is no data."""

    frames: list[EvaluatedFrame]  # in the order of the drives and their images
    metrics: Metrics  # of the answers
    bound: Metrics  # of the nearest map images: the upper bound of retrieval
    judged: Counts  # of all images with a true pose
    on_map: Counts  # of images taken near a map image (Criteria.on_map_distance)
    off_map: Counts  # of the other images
    curve: PrecisionRecall | None  # over the probability of the answers
    consistency: Consistency | None  # of the covariances with the errors
    latency_ms: dict[str, dict[str, float]]  # stage → "p50", "p90", "p99"
    images_per_second: float  # one image after the other, without decoding
    domains: dict[str, int]  # number of images by chosen domain


@dataclass(frozen=True)
class Evaluation:
    """All figures of an evaluation."""

    setup: dict[str, object]  # model, map, settings and machine
    criteria: Criteria  # by which answers were judged
    conditions: dict[str, Condition]  # by name
    overall: Condition  # all frames
    runs: dict[str, dict[str, object]]  # rates and counts by drive
    notes: list[str]  # findings that a reader of the figures needs, in sentences


def judge(
    place_map: PlaceMap,
    drives: Sequence[Drive],
    setup: Mapping[str, object],
    criteria: Criteria = DEFAULTS,
) -> Evaluation:
    """Compares the answers of drives with their true poses."""
    groups: dict[str, list[EvaluatedFrame]] = {}
    notes = []
    names = Counter(
        name for drive in drives for name in {drive.condition_of(a.record) for a in drive.answers}
    )
    for drive in drives:
        frames = _evaluated_frames(place_map, drive, criteria)
        remarks = [*drive.notes, *_coverage(frames, criteria), *constant_errors(frames)]
        remarks += _mounts(place_map, drive)
        notes += [f"{drive.name}: {note}" for note in remarks]
        for frame in frames:
            name = drive.condition_of(frame.answer.record)
            key = f"{drive.name}, {name}" if names[name] > 1 else name
            groups.setdefault(key, []).append(frame)
    conditions = {name: figures(frames, criteria) for name, frames in groups.items()}
    for name, condition in conditions.items():
        notes += [f"{name}: {note}" for note in _trust(condition.consistency)]
    return Evaluation(
        setup=dict(setup),
        criteria=criteria,
        conditions=conditions,
        overall=figures([f for frames in groups.values() for f in frames], criteria),
        runs={drive.name: dict(drive.run) for drive in drives},
        notes=notes,
    )


def figures(frames: list[EvaluatedFrame], criteria: Criteria = DEFAULTS) -> Condition:
    """Figures of a group of frames."""
    truth = [frame.truth for frame in frames]
    rankings = [f.ranking if f.answer.outcome == KNOWN else () for f in frames]
    posed = [frame for frame in frames if frame.truth is not None]
    totals = [f.answer.timings_ms["total"] for f in frames if "total" in f.answer.timings_ms]
    return Condition(
        frames=frames,
        metrics=score(truth, [frame.pose for frame in frames], criteria, rankings),
        bound=score(truth, [frame.bound for frame in frames], criteria),
        judged=count(posed, criteria),
        on_map=count([frame for frame in posed if frame.on_map], criteria),
        off_map=count([frame for frame in posed if not frame.on_map], criteria),
        curve=_curve(posed, criteria),
        consistency=consistency(estimates(frames)),
        latency_ms=latencies([frame.answer.timings_ms for frame in frames]),
        images_per_second=1e3 / float(np.mean(totals)) if totals else float("nan"),
        domains=dict(Counter(f.answer.domain for f in frames if f.answer.domain)),
    )


def latencies(timings_ms: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Percentiles of the latency [ms] by stage, in the order of the stages."""
    stages = dict.fromkeys(stage for timing in timings_ms for stage in timing)
    columns = {stage: [t[stage] for t in timings_ms if stage in t] for stage in stages}
    return {
        stage: {f"p{p}": float(np.percentile(column, p)) for p in PERCENTILES}
        for stage, column in columns.items()
    }


def _curve(posed: Sequence[EvaluatedFrame], criteria: Criteria) -> PrecisionRecall | None:
    matched = [frame for frame in posed if frame.best is not None]
    possible = sum(frame.on_map for frame in posed)
    if not matched or not possible:
        return None
    scores = np.array([frame.answer.probability for frame in matched])
    right = np.array([frame.error_m <= criteria.recall_distance for frame in matched])
    return precision_recall(scores, right, possible)


def _evaluated_frames(
    place_map: PlaceMap, drive: Drive, criteria: Criteria
) -> list[EvaluatedFrame]:
    """Compares the answers of a drive with their true poses."""

    def on_vehicle(answer: QueryResult, pose: Transform | None) -> Transform | None:
        return next(iter(drive.map_from_base(answer.record.camera, [pose])), None)

    truth = [on_vehicle(answer, answer.record.map_from_camera) for answer in drive.answers]
    best = [on_vehicle(answer, answer.pose) for answer in drive.answers]
    bound = _nearest(place_map, drive, truth)
    limits, _ = errors(truth, bound)
    metres, degrees = errors(truth, best)
    return [
        EvaluatedFrame(
            drive=drive,
            answer=answer,
            truth=truth[row],
            best=best[row],
            ranking=tuple(
                drive.map_from_base(
                    answer.record.camera, [match.map_from_camera for match in answer.ranking]
                )
            ),
            bound=bound[row],
            on_map=bool(limits[row] <= criteria.on_map_distance),
            error_m=float(metres[row]),
            error_deg=float(degrees[row]),
        )
        for row, answer in enumerate(drive.answers)
    ]


def _nearest(
    place_map: PlaceMap, drive: Drive, truth: Sequence[Transform | None]
) -> list[Transform | None]:
    """Returns map_from_base at the nearest map image of each answer's camera."""
    result: list[Transform | None] = [None] * len(truth)
    for camera in place_map.cameras():
        rows = [i for i, a in enumerate(drive.answers) if a.record.camera in (camera, "")]
        records = [place_map.records[row] for row in place_map.rows_of(camera)]
        poses = drive.map_from_base(camera, [record.map_from_camera for record in records])
        for row, pose in zip(rows, nearest([truth[row] for row in rows], poses), strict=True):
            result[row] = pose
    return result


def _mounts(place_map: PlaceMap, drive: Drive) -> list[str]:
    """Describes cameras that sit elsewhere than the map's; an identity counts as unknown."""
    driven, mapped = drive.source.info.cameras, place_map.header.cameras
    unknown = Transform.identity()
    shared = [name for name in driven if name in mapped and mount(driven, name) != unknown]
    notes = [mount_difference(name, mount(driven, name), mount(mapped, name)) for name in shared]
    return [note for note in notes if note]


def _trust(measured: Consistency | None) -> list[str]:
    """Describes covariances that do not match the errors, if they do not."""
    if measured is None or CONSISTENT[0] <= measured.position_mean <= CONSISTENT[1]:
        return []
    nees, factor = measured.position_mean, math.sqrt(measured.position_mean)
    if nees > 1:
        meaning = (
            f"errors are {factor:.1f} times as large as the covariances say, wrong answers "
            "included, so that a filter trusts these poses too much"
        )
    else:
        meaning = (
            f"covariances say {1 / factor:.1f} times as much as the errors are, so that a filter "
            "makes less of these poses than it could"
        )
    return [f"position NEES {nees:.{0 if nees >= 100 else 2}f}: {meaning}"]


def _coverage(frames: Sequence[EvaluatedFrame], criteria: Criteria) -> list[str]:
    """Describes images taken away from the map, if there are any."""
    posed = [frame for frame in frames if frame.truth is not None]
    off = sum(not frame.on_map for frame in posed)
    if not off:
        return []
    limit = f"more than {criteria.on_map_distance:g} m from any map image"
    if off == len(posed):
        return [f"every image was taken {limit}: is the drive of another place or frame?"]
    return [f"{off} of {len(posed)} images were taken {limit}"]
