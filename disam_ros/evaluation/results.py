# SPDX-License-Identifier: Apache-2.0
"""results.json: all figures of an evaluation, and the errors of every frame."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from disam_ros.errors import DatasetError
from disam_ros.evaluation.judge import OVERALL, Condition, Evaluation
from disam_ros.files.checking import check_entries
from disam_ros.files.reading import read_json
from disam_ros.files.writing import atomic_file, finite

Results = dict[str, Any]  # contents of a results.json
FORMAT_VERSION = 1
DIGITS = 6  # decimals of numbers
FRAME_KINDS = {
    **dict.fromkeys(("condition", "camera", "outcome"), list[str]),
    "stamp_ns": list[int],
    "domain": list[str | None],
    "matched_id": list[int | None],
    **dict.fromkeys(("score", "error_m", "error_deg"), list[float | None]),
    **dict.fromkeys(("judged", "on_map"), list[bool]),
}  # columns of the frames that are read again
FRAME_COLUMNS = (*FRAME_KINDS, "probability")
KINDS = {"setup": dict, "criteria": dict, "conditions": dict, OVERALL: dict, "frames": dict}
CRITERIA = {"thresholds": list[tuple[float, float]], "recall_distance": float}
FIGURES = {
    "metrics": dict,
    **dict.fromkeys(("precision_recall", "consistency", "latency_ms"), dict | None),
}  # of a condition
NUMBERS = {
    "metrics": ("answered", "median_error_m", "p90_error_m"),
    "precision_recall": ("area", "recall_at_full_precision"),
    "consistency": ("position_mean",),
    "total": ("p50", "p99"),
}  # that are compared, by the object that holds them


def to_json(evaluation: Evaluation) -> Results:
    """Returns the contents of results.json; numbers that are not finite become None."""
    values = {
        "format_version": FORMAT_VERSION,
        "setup": evaluation.setup,
        "criteria": asdict(evaluation.criteria),
        "runs": evaluation.runs,
        "notes": evaluation.notes,
        "conditions": {name: _figures(c) for name, c in evaluation.conditions.items()},
        OVERALL: _figures(evaluation.overall),
        "frames": _frames(evaluation),
    }
    return {name: finite(value, DIGITS) for name, value in values.items()}


def write_results(path: Path, evaluation: Evaluation) -> None:
    """Writes results.json."""
    text = json.dumps(to_json(evaluation), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as file:
        file.write(text + "\n")


def read_results(path: Path | str) -> Results:
    """Reads a results.json, or the one in a directory. Raises DatasetError."""
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise DatasetError(f"{path} not found: expected what `disam evaluate` wrote")
    try:
        values = read_json(path, FORMAT_VERSION, DatasetError, KINDS)
        check_entries(values["criteria"], CRITERIA, "'criteria'", DatasetError)
        for name, figures in {**values["conditions"], OVERALL: values[OVERALL]}.items():
            _check_figures(figures, f"'{name}'")
        frames = check_entries(values["frames"], FRAME_KINDS, "'frames'", DatasetError)
        if len({len(frames[column]) for column in FRAME_KINDS}) != 1:
            raise DatasetError("'frames' expects columns of one length")
    except DatasetError as error:
        fault = str(error).removeprefix(f"{path}: ")
        raise DatasetError(f"{path} is not a results.json of `disam evaluate`: {fault}") from error
    return values


def _check_figures(figures: object, where: str) -> None:
    """Raises DatasetError unless the figures of a condition that are compared are numbers."""
    entries = check_entries(figures, FIGURES, where, DatasetError)
    latency = check_entries(
        entries["latency_ms"] or {}, {"total": dict | None}, f"{where}: 'latency_ms'", DatasetError
    )
    for name, numbers in NUMBERS.items():
        kinds = dict.fromkeys(numbers, float | None)
        values = (latency if name == "total" else entries)[name]
        check_entries(values or {}, kinds, f"{where}: '{name}'", DatasetError)


def _figures(condition: Condition) -> dict[str, object]:
    curve, consistency = condition.curve, condition.consistency
    return {
        "metrics": condition.metrics.to_json(),
        "nearest_map_image": condition.bound.to_json(),
        "wrong": condition.judged.wrong,
        "worst_m": condition.judged.worst_m,
        "on_map": asdict(condition.on_map),
        "off_map": asdict(condition.off_map),
        "precision_recall": None if curve is None else curve.to_json(),
        "consistency": None if consistency is None else consistency.to_json(),
        "latency_ms": condition.latency_ms,
        "images_per_second": condition.images_per_second,
        "domains": condition.domains,
    }


def _frames(evaluation: Evaluation) -> dict[str, list[object]]:
    rows = [
        {
            "condition": name,
            "stamp_ns": frame.answer.record.stamp_ns,
            "camera": frame.answer.record.camera,
            "outcome": frame.answer.outcome,
            "domain": frame.answer.domain,
            "probability": frame.answer.probability,
            "score": frame.answer.score,
            "matched_id": None if frame.answer.best is None else frame.answer.best.id,
            "error_m": frame.error_m,
            "error_deg": frame.error_deg,
            "judged": frame.truth is not None,
            "on_map": frame.on_map,
        }
        for name, condition in evaluation.conditions.items()
        for frame in condition.frames
    ]
    return {column: [row[column] for row in rows] for column in FRAME_COLUMNS}
