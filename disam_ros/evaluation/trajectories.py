# SPDX-License-Identifier: Apache-2.0
"""Trajectories in the TUM format, which evo and others read: `seconds tx ty tz qx qy qz qw`."""

from __future__ import annotations

import re
from pathlib import Path

from disam_ros.evaluation.frames import EvaluatedFrame
from disam_ros.evaluation.judge import Evaluation
from disam_ros.geometry import Transform

NS = 10**9


def write_trajectories(directory: Path, evaluation: Evaluation) -> None:
    """Writes NAME.txt, the answers, and NAME_truth.txt per condition and camera, map_from_base.

    Rows are in time order; unanswered images and unknown true poses have no row.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, condition in evaluation.conditions.items():
        cameras = dict.fromkeys(frame.answer.record.camera for frame in condition.frames)
        for camera in cameras:
            frames = [f for f in condition.frames if f.answer.record.camera == camera]
            label = name if len(cameras) == 1 else f"{name}_{camera}"
            stem = re.sub(r"[^\w.-]+", "_", label)
            _write(directory / f"{stem}.txt", [(f, f.pose) for f in frames])
            _write(directory / f"{stem}_truth.txt", [(f, f.truth) for f in frames])


def tum_line(stamp_ns: int, pose: Transform) -> str:
    """Formats one pose; the time has nanoseconds."""
    values = " ".join(f"{v:.9f}" for v in (*pose.translation, *pose.quaternion))
    return f"{stamp_ns // NS}.{stamp_ns % NS:09d} {values}"


def _write(path: Path, poses: list[tuple[EvaluatedFrame, Transform | None]]) -> None:
    rows = [(f.answer.record.stamp_ns, pose) for f, pose in poses if pose is not None]
    rows.sort(key=lambda row: row[0])
    path.write_text("".join(f"{tum_line(*row)}\n" for row in rows))
