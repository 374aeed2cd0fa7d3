# SPDX-License-Identifier: Apache-2.0
"""Predictions of another method as results of an evaluation, on the queries of ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from disam_ros.camera import Camera, mount
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import open_images
from disam_ros.errors import DatasetError
from disam_ros.evaluation.judge import OVERALL
from disam_ros.evaluation.predictions.names import Names, name_of, utm_id
from disam_ros.evaluation.predictions.reading import Predictions
from disam_ros.geometry import Transform, distance
from disam_ros.localization.answer import KNOWN, UNKNOWN
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.pose_buffer import PoseBuffer

MAX_GAP_NS = 10**8  # between two poses of a trajectory, across which is interpolated

Frame = tuple[str, int]  # camera and stamp [ns]
Errors = dict[Frame, tuple[float, float]]  # m, degrees


def results_of(ours: dict, predictions: Predictions, place_map: PlaceMap) -> dict:
    """Results of the same form as `ours`, a results.json, for `comparison_table`.

    A query without a prediction counts as unanswered. The drives are those of `ours`. Raises
    DatasetError where predictions are of other queries or other map images.
    """
    header = place_map.header
    records, cameras = [], {}
    for path in ours["setup"].get("drives", ()):
        source = open_images(path, header.map_frame, mapped=header.cameras)
        records += [item.record for item in source.images]
        cameras |= source.info.cameras
    if len({(r.camera, r.stamp_ns) for r in records}) < len(records):
        raise DatasetError(
            "two queries have the same camera and stamp: evaluate one drive at a time"
        )
    truth = {
        (r.camera, r.stamp_ns): _base(r, cameras) for r in records if r.map_from_camera is not None
    }
    if predictions.poses is not None:
        errors = _of_poses(predictions, truth)
    else:
        errors = _of_images(predictions, records, truth, place_map)
    if not errors:
        raise DatasetError(
            f"not one prediction is of a query of the evaluation: expected names of files of "
            f"{', '.join(map(str, ours['setup'].get('drives', ())))}"
        )
    return _results(ours, errors)


def _of_poses(predictions: Predictions, truth: Mapping[Frame, Transform]) -> Errors:
    track = predictions.poses
    assert track is not None
    buffer = PoseBuffer.of(track.stamps, track.poses, MAX_GAP_NS)
    found = {frame: buffer.at(frame[1]) for frame in truth}
    return {frame: distance(at, truth[frame]) for frame, at in found.items() if at is not None}


def _of_images(
    predictions: Predictions,
    records: Iterable[ImageRecord],
    truth: Mapping[Frame, Transform],
    place_map: PlaceMap,
) -> Errors:
    """Errors of the first map image of each query."""
    queries = Names((name_of(r), (r.camera, r.stamp_ns)) for r in records)
    by_name = Names((name_of(r), r) for r in place_map.records)
    by_id = {r.id: r for r in place_map.records}
    errors: Errors = {}
    for query, ranked in predictions.ranked.items():
        frame, number = queries.find(query), utm_id(ranked[0])
        best = by_name.find(ranked[0]) if number is None else by_id.get(number)
        if frame is not None and best is None:
            raise DatasetError(
                f"'{ranked[0]}', predicted for '{query}', is no image of the map; expected names "
                f"such as '{by_name.example()}'"
            )
        if frame in truth and best is not None:
            errors[frame] = distance(_base(best, place_map.header.cameras), truth[frame])
    return errors


def _base(record: ImageRecord, cameras: Mapping[str, Camera]) -> Transform:
    """map_from_base."""
    assert record.map_from_camera is not None
    return record.map_from_camera @ mount(cameras, record.camera).inverse()


def _results(ours: dict, errors: Errors) -> dict:
    frames = dict(ours["frames"])
    keys = list(zip(frames["camera"], frames["stamp_ns"], strict=True))
    known = [errors.get(key) for key in keys]
    frames |= {
        "outcome": [KNOWN if found else UNKNOWN for found in known],
        "error_m": [found and round(found[0], 6) for found in known],
        "error_deg": [found and round(found[1], 6) for found in known],
    }
    conditions = {name: _figures(frames, name) for name in ours["conditions"]}
    return {
        "criteria": ours["criteria"],
        "conditions": conditions,
        OVERALL: _figures(frames, OVERALL),
        "frames": frames,
    }


def _figures(frames: dict, name: str) -> dict:
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


def find_map(ours: dict, given: str) -> Path:
    """The map of an evaluation, or the one that was given. Raises DatasetError."""
    path = given or ours["setup"].get("map", "")
    if not path or not Path(path).is_dir():
        raise DatasetError(f"the map of the evaluation, '{path}', is not there: give --map")
    return Path(path)
