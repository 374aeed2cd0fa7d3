# SPDX-License-Identifier: Apache-2.0
"""Sequence tracking and geometric verification, each alone and both; recovery after kidnapping.

Offline and online (no look-ahead). The calibration was learned on another town
(models/*/calibration.json); nothing was chosen on the drives below.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.accuracy.drives import NOTHING, SIFT, XFEAT, Maps, frame_of, opened, queries, tracked
from benchmark.accuracy.rides import RIGHT_M, Ride, gardens, town, train
from benchmark.single_images import single_pipeline
from disam_ros.config import LocalizerConfig
from disam_ros.errors import BlindError
from disam_ros.evaluation.confidence import consistency
from disam_ros.files.writing import write_json
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Query
from disam_ros.localization.sequence.bayes_filter import FilterModel
from training.engine.export import git_commit

RUNS = Path("runs/sequences")
ALONE, BLIND, ODOMETRY = "each image alone", "sequence, no odometry", "sequence, odometry"
ROWS = tuple(product((ALONE, BLIND, ODOMETRY), (NOTHING, SIFT, XFEAT)))

BEFORE, AFTER = 25, 40  # images of a kidnapping's two stretches
FAR = 50.0  # metres at least between them
TRIALS = 20  # of each condition
PERIOD_NS = 400_000_000  # between images, as in the drives
WITH_ODOMETRY = {"odometry": True, "no odometry": False}


def measure(runs: Path = RUNS) -> dict[str, Any]:
    """Figures by ride and row; kidnappings by condition and row.

    runs: where the figures of finished rides lie, by commit: an interrupted run goes on with the
    next ride.
    """
    folder = runs / git_commit()
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for maps, ride in chain(town(root), gardens(root), train(root)):
            file = folder / f"{ride.name}.json"
            if not file.exists():
                write_json(file, of_ride(maps, ride))
            results[ride.name] = json.loads(file.read_text())
    kidnapped = {
        name: values.pop("kidnapped") for name, values in results.items() if "kidnapped" in values
    }
    return {
        "rides": results,
        "least": LocalizerConfig().min_probability,
        "kidnapped": {"conditions": kidnapped, "excess_p90": excess(kidnapped)},
    }


def of_ride(maps: Maps, ride: Ride) -> dict[str, dict[str, Any]]:
    """Figures by row, and in the town of kidnappings."""
    rows: dict[str, dict[str, Any]] = {
        f"{mode}/{kind}": figures(opened(maps, kind, ride.max_speed), ride, mode)
        for mode, kind in ROWS
        if kind in maps
    }
    if ride.name.startswith("town"):
        localizer = opened(maps)
        alone = list(queries(localizer, ride.items))
        rows["kidnapped"] = {
            row: recoveries(localizer, alone, ride, odometry)
            for row, odometry in WITH_ODOMETRY.items()
        }
    return rows


def figures(localizer: Localizer, ride: Ride, mode: str) -> dict[str, float]:
    """Shares in 0…1, median error [m], NEES over its expectation."""
    alone = mode == ALONE
    pipeline = single_pipeline(localizer) if alone else Pipeline(localizer)
    camera = localizer.map.main_camera()
    errors, sure, poses = [], [], []
    for item, truth in zip(ride.items, ride.truth, strict=True):
        frame = frame_of(item, camera, ride.domain)
        odometry = ride.odometry.reading(item.record.stamp_ns) if mode == ODOMETRY else None
        (localized,) = pipeline.process([Shot(frame, odometry)])
        if isinstance(localized.outcome, BlindError):  # as in a tunnel: no answer, not a right one
            errors.append(np.inf)
            sure.append(False)
            continue
        answer = localized.answer
        pose = answer.map_from_base
        errors.append(float(np.linalg.norm(pose.translation - truth.translation)))
        sure.append(answer.known)
        if answer.known and not alone:
            poses.append((truth, pose, answer.covariance))
    far, answered = np.array(errors), np.array(sure)
    nees = consistency(poses)
    return {
        "right": float((far <= ride.right).mean()),
        "half": float((far <= 0.5).mean()),
        "pose": nees.pose_mean if nees else float("nan"),
        "plane": nees.plane_mean if nees else float("nan"),
        "median": float(np.median(far)),
        "answered": float(answered.mean()),
        "wrong": float((far[answered] > FilterModel().radius).mean()) if answered.any() else 0.0,
    }


def recoveries(
    localizer: Localizer, alone: Sequence[Query], ride: Ride, odometry: bool
) -> dict[str, list[int]]:
    """Images until the place is known and right, from a cold start and after kidnapping.

    alone: queries of the ride. wrong: poses of wrong places published before that.
    """
    result: dict[str, list[int]] = {"cold": [], "carried": [], "wrong": []}
    for start, landing in trials(ride):
        before, after = range(start, start + BEFORE), range(landing, landing + AFTER)
        cold, _ = recovery(localizer, alone, ride, range(0), after, odometry)
        carried, wrong = recovery(localizer, alone, ride, before, after, odometry)
        for key, value in (("cold", cold), ("carried", carried), ("wrong", wrong)):
            result[key].append(value)
    return result


def excess(conditions: Mapping[str, dict[str, Any]]) -> float:
    """90th percentile of images that kidnapping costs above a cold start, with odometry."""
    rows = [rows["odometry"] for rows in conditions.values()]
    later = [np.subtract(row["carried"], row["cold"]) for row in rows]
    return float(np.percentile(np.concatenate(later), 90)) if later else float("nan")


def trials(ride: Ride) -> Iterator[tuple[int, int]]:
    """First images of the stretches, the same for the same ride."""
    rng, count = np.random.default_rng(0), 0
    while count < TRIALS:
        start = int(rng.integers(0, len(ride.items) - BEFORE))
        landing = int(rng.integers(0, len(ride.items) - AFTER))
        left, reached = ride.truth[start + BEFORE - 1], ride.truth[landing]
        if np.linalg.norm(left.translation - reached.translation) >= FAR:
            count += 1
            yield start, landing


def recovery(
    localizer: Localizer,
    alone: Sequence[Query],
    ride: Ride,
    before: Sequence[int],
    after: Sequence[int],
    odometry: bool,
) -> tuple[int, int]:
    """Images of `after` until the place is known and right, and wrong poses published meanwhile."""
    frames, wrong = [*before, *after], 0
    poses = _wheel_poses(ride, frames)
    steps = (
        (alone[frame], (number + 1) * PERIOD_NS, poses[number] if odometry else None)
        for number, frame in enumerate(frames)
    )
    for number, answer in enumerate(tracked(localizer, steps)):
        if number < len(before) or not answer.known:
            continue
        truth = ride.truth[frames[number]]
        gap = answer.map_from_base.translation - truth.translation
        if np.linalg.norm(gap) <= RIGHT_M:
            return number - len(before) + 1, wrong
        wrong += 1
    return len(after) + 1, wrong


def _wheel_poses(ride: Ride, frames: Sequence[int]) -> list[Transform]:
    """Odometry along the frames; nothing moves between stretches or where it is unknown."""
    at = [ride.odometry.at(item.record.stamp_ns) for item in ride.items]
    odom = [one and one[0] for one in at]
    poses = [Transform.identity()]
    for last, frame in pairwise(frames):
        before, now = odom[last], odom[frame]
        if last != frame - 1 or before is None or now is None:
            poses.append(poses[-1])
        else:
            poses.append(poses[-1] @ before.inverse() @ now)
    return poses
