# SPDX-License-Identifier: Apache-2.0
"""Evaluates the answers to drives against their true poses, by condition and overall."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from disam_ros.camera import mount, mount_difference
from disam_ros.evaluation.baselines import nearest
from disam_ros.evaluation.confidence import (
    Consistency,
    PrecisionRecall,
    consistency,
    precision_recall,
)
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.frames import Counts, EvaluatedFrame, constant_errors, count
from disam_ros.evaluation.metrics import DEFAULTS, Criteria, Metrics, errors, score
from disam_ros.geometry import Transform
from disam_ros.localization.answer import KNOWN
from disam_ros.mapping.place_map import PlaceMap

OVERALL = "overall"
PERCENTILES = (50, 90, 99)
CONSISTENT = (0.4, 2.5)  # position NEES over its expectation that needs no note


@dataclass(frozen=True)
class Condition:
    """Frames of one condition, in order, and their figures; None where there is no data."""

    frames: list[EvaluatedFrame]
    metrics: Metrics
    bound: Metrics  # upper bound: of the nearest map image
    judged: Counts
    on_map: Counts  # images taken near a map image (Criteria.on_map_distance)
    off_map: Counts
    curve: PrecisionRecall | None
    consistency: Consistency | None
    latency_ms: dict[str, dict[str, float]]  # stage → "p50", "p90", "p99"
    images_per_second: float  # one image after the other, without decoding
    domains: dict[str, int]  # number of images by chosen domain


@dataclass(frozen=True)
class Evaluation:
    """All figures of some drives.

    setup: model, map, settings and machine. runs: rates and counts by drive. notes: findings that
    a reader of the figures needs, in sentences.
    """

    setup: dict[str, object]
    criteria: Criteria
    conditions: dict[str, Condition]
    overall: Condition
    runs: dict[str, dict[str, object]]
    notes: list[str]


def judge(
    place_map: PlaceMap,
    drives: Sequence[Drive],
    setup: Mapping[str, object],
    criteria: Criteria = DEFAULTS,
) -> Evaluation:
    """Compare the answers of drives with their true poses."""
    groups: dict[str, list[EvaluatedFrame]] = {}
    notes = []
    names = Counter(name for drive in drives for name in drive.conditions())
    for drive in drives:
        frames = _evaluated_frames(place_map, drive, criteria)
        found = [*drive.notes, *_coverage(frames, criteria), *constant_errors(frames)]
        found += _mounts(place_map, drive)
        notes += [f"{drive.name}: {note}" for note in found]
        for frame in frames:
            name = frame.answer.record.domain or drive.name
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
    """The figures of some frames."""
    truth = [frame.truth for frame in frames]
    rankings = [f.ranking if f.answer.outcome == KNOWN else () for f in frames]
    posed = [frame for frame in frames if frame.truth is not None]
    answered = [f for f in posed if f.given is not None and f.answer.covariance is not None]
    totals = [f.answer.timings_ms["total"] for f in frames if "total" in f.answer.timings_ms]
    return Condition(
        frames=frames,
        metrics=score(truth, [frame.given for frame in frames], criteria, rankings),
        bound=score(truth, [frame.bound for frame in frames], criteria),
        judged=count(posed, criteria),
        on_map=count([frame for frame in posed if frame.on_map], criteria),
        off_map=count([frame for frame in posed if not frame.on_map], criteria),
        curve=_curve(posed, criteria),
        consistency=consistency(
            [frame.truth for frame in answered],
            [frame.given for frame in answered],
            [frame.answer.covariance for frame in answered],
        ),
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
    """The answers of a drive with their true poses and errors."""
    records = [answer.record for answer in drive.answers]
    truth = [drive.map_from_base(r, r.map_from_camera) for r in records]
    rankings = [
        tuple(drive.map_from_base(answer.record, r.map_from_camera) for r in answer.ranking)
        for answer in drive.answers
    ]
    best = [drive.map_from_base(answer.record, answer.pose) for answer in drive.answers]
    bound = _nearest(place_map, drive, truth)
    limits, _ = errors(truth, bound)
    columns = (drive.answers, truth, best, rankings, bound, limits, *errors(truth, best))
    return [
        EvaluatedFrame(
            drive=drive,
            answer=answer,
            truth=true,
            best=one,
            ranking=ranking,
            bound=near,
            on_map=bool(limit <= criteria.on_map_distance),
            error_m=float(metres),
            error_deg=float(degrees),
        )
        for answer, true, one, ranking, near, limit, metres, degrees in zip(*columns, strict=True)
    ]


def _nearest(
    place_map: PlaceMap, drive: Drive, truth: Sequence[Transform | None]
) -> list[Transform | None]:
    """map_from_base at the nearest map image of each answer's own camera."""
    result: list[Transform | None] = [None] * len(truth)
    for camera in place_map.cameras():
        rows = [i for i, a in enumerate(drive.answers) if a.record.camera in (camera, "")]
        mapped = [place_map.records[row] for row in place_map.rows_of(camera)]
        poses = [drive.map_from_base(record, record.map_from_camera) for record in mapped]
        for row, pose in zip(rows, nearest([truth[row] for row in rows], poses), strict=True):
            result[row] = pose
    return result


def _mounts(place_map: PlaceMap, drive: Drive) -> list[str]:
    """Notes on cameras that sit elsewhere than the map's; an identity counts as unknown."""
    given, mapped = drive.source.info.cameras, place_map.header.cameras
    unknown = Transform.identity()
    both = [name for name in given if name in mapped and mount(given, name) != unknown]
    notes = [mount_difference(name, mount(given, name), mount(mapped, name)) for name in both]
    return [note for note in notes if note]


def _trust(found: Consistency | None) -> list[str]:
    """A note on covariances that say another error than is found, if they do."""
    if found is None or CONSISTENT[0] <= found.position_mean <= CONSISTENT[1]:
        return []
    nees, factor = found.position_mean, math.sqrt(found.position_mean)
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
    """A note on images taken away from the map, if there are any."""
    posed = [frame for frame in frames if frame.truth is not None]
    off = sum(not frame.on_map for frame in posed)
    if not off:
        return []
    limit = f"more than {criteria.on_map_distance:g} m from any map image"
    if off == len(posed):
        return [f"every image was taken {limit}: is the drive of another place or frame?"]
    return [f"{off} of {len(posed)} images were taken {limit}"]
