# SPDX-License-Identifier: Apache-2.0
"""Predictions of another method as results of an evaluation, on the queries of ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from disam_ros.camera import Camera, mount
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import open_images
from disam_ros.datasets.trajectories import Trajectory
from disam_ros.errors import DatasetError
from disam_ros.evaluation.judge import OVERALL
from disam_ros.evaluation.predictions.files import Names, Predictions, name_of, utm_id
from disam_ros.evaluation.results import Results
from disam_ros.geometry import Transform, distance
from disam_ros.localization.query import KNOWN, UNKNOWN
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.pose_buffer import PoseBuffer

MAX_GAP_NS = 10**8  # between two poses of a trajectory, across which is interpolated

Frame = tuple[str, int]  # camera and stamp [ns]
Errors = dict[Frame, tuple[float, float]]  # m, degrees


def results_of(ours: Results, predictions: Predictions, place_map: PlaceMap) -> Results:
    """Converts predictions to the form of `ours`, a results.json, for `comparison_table`.

    A query without a prediction counts as unanswered. The drives are those of `ours`. Raises
    DatasetError where predictions are of other queries or other map images.
    """
    header = place_map.header
    records: list[ImageRecord] = []
    cameras: dict[str, Camera] = {}
    for path in ours["setup"].get("drives", ()):
        source = open_images(path, header.map_frame, mapped=header.cameras)
        records += [item.record for item in source.images]
        cameras |= source.info.cameras
    if len({(r.camera, r.stamp_ns) for r in records}) < len(records):
        raise DatasetError(
            "two queries have the same camera and stamp: evaluate one drive at a time"
        )
    truth = {
        (r.camera, r.stamp_ns): _map_from_base(r, cameras)
        for r in records
        if r.map_from_camera is not None
    }
    if predictions.poses is not None:
        errors = _pose_errors(predictions.poses, truth)
    else:
        errors = _image_errors(predictions.ranked, records, truth, place_map)
    if not errors:
        raise DatasetError(
            f"not one prediction is of a query of the evaluation: expected names of files of "
            f"{', '.join(map(str, ours['setup'].get('drives', ())))}"
        )
    return _results(ours, errors)


def _pose_errors(track: Trajectory, truth: Mapping[Frame, Transform]) -> Errors:
    """Errors of the interpolated poses at the stamps of the queries."""
    buffer = PoseBuffer.of(track.stamps, track.poses, MAX_GAP_NS)
    poses = {frame: buffer.at(frame[1]) for frame in truth}
    return {frame: distance(at, truth[frame]) for frame, at in poses.items() if at is not None}


def _image_errors(
    ranked: Mapping[str, list[str]],
    records: Iterable[ImageRecord],
    truth: Mapping[Frame, Transform],
    place_map: PlaceMap,
) -> Errors:
    """Errors of the first map image of each query."""
    queries = Names((name_of(r), (r.camera, r.stamp_ns)) for r in records)
    by_name = Names((name_of(r), r) for r in place_map.records)
    by_id = {r.id: r for r in place_map.records}
    errors: Errors = {}
    for query, (first, *_) in ranked.items():
        frame, number = queries.find(query), utm_id(first)
        if frame is None:
            continue
        best = by_name.find(first) if number is None else by_id.get(number)
        if best is None:
            raise DatasetError(
                f"'{first}', predicted for '{query}', is no image of the map; expected names "
                f"such as '{by_name.example()}'"
            )
        if frame in truth:
            errors[frame] = distance(_map_from_base(best, place_map.header.cameras), truth[frame])
    return errors


def _map_from_base(record: ImageRecord, cameras: Mapping[str, Camera]) -> Transform:
    assert record.map_from_camera is not None
    return record.map_from_camera @ mount(cameras, record.camera).inverse()


def _results(ours: Results, errors: Errors) -> Results:
    """Replaces the answers of `ours`."""
    frames = dict(ours["frames"])
    keys = list(zip(frames["camera"], frames["stamp_ns"], strict=True))
    rows = [errors.get(key) for key in keys]
    frames |= {
        "outcome": [KNOWN if row else UNKNOWN for row in rows],
        "error_m": [row and round(row[0], 6) for row in rows],
        "error_deg": [row and round(row[1], 6) for row in rows],
    }
    conditions = {name: _figures(frames, name) for name in ours["conditions"]}
    return {
        "criteria": ours["criteria"],
        "conditions": conditions,
        OVERALL: _figures(frames, OVERALL),
        "frames": frames,
    }


def _figures(frames: dict[str, list[Any]], name: str) -> dict[str, object]:
    """Figures of a condition, as far as they are compared."""
    rows = [row for row, c in enumerate(frames["condition"]) if name in (c, OVERALL)]
    metres = [frames["error_m"][row] for row in rows if frames["error_m"][row] is not None]
    median, p90 = np.percentile(metres, (50, 90)) if metres else (math.nan, math.nan)
    return {
        "metrics": {
            "answered": len(metres) / max(len(rows), 1),
            "median_error_m": float(median) if metres else None,
            "p90_error_m": float(p90) if metres else None,
        }
    }


def find_map(ours: Results, chosen: str) -> Path:
    """Returns the chosen map; by default that of the evaluation. Raises DatasetError."""
    path = chosen or ours["setup"].get("map", "")
    if not path or not Path(path).is_dir():
        raise DatasetError(f"the map of the evaluation, '{path}', is not there: give --map")
    return Path(path)
