# SPDX-License-Identifier: Apache-2.0
"""The output of an evaluation: report.html, results.json, answers.csv, trajectories/, tables."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from disam_ros.datasets.sources import ImageSource
from disam_ros.datasets.text_rows import tum_line
from disam_ros.device import describe_device, processor_name, threads
from disam_ros.evaluation.answers import write_answers
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.frames import EvaluatedFrame
from disam_ros.evaluation.judge import Evaluation, judge
from disam_ros.evaluation.metrics import DEFAULTS, Criteria
from disam_ros.evaluation.predictions.files import write_pairs
from disam_ros.evaluation.report import choose, load, write_report
from disam_ros.evaluation.results import write_results
from disam_ros.evaluation.tables import tables
from disam_ros.files.outputs import EVALUATION, atomic_directory
from disam_ros.files.printable import printable
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import MISSING, UNREADABLE

REPORT, RESULTS = "report.html", "results.json"
ANSWERS, TRAJECTORIES, PREDICTIONS = "answers.csv", "trajectories", "predictions"
WIDTH = 140  # characters of a table that is not shown on a terminal


def write_evaluation(
    output: Path | str,
    evaluation: Evaluation,
    localizer: Localizer,
    references: ImageSource | None = None,
    overwrite: bool = False,
) -> None:
    """Writes everything into a directory, which appears when it is complete.

    references: the drive that the map was built from, so that the report can show its images.
    overwrite: replaces an existing evaluation. Raises OutputError.
    """
    with atomic_directory(output, EVALUATION, overwrite) as part:
        write_results(part / RESULTS, evaluation)
        frames = evaluation.overall.frames
        write_answers(part / ANSWERS, (frame.answer for frame in frames))
        write_trajectories(part / TRAJECTORIES, evaluation)
        write_pairs(part / PREDICTIONS, evaluation)
        examples = load(choose(evaluation), localizer, references)
        write_report(part / REPORT, evaluation, examples, localizer.map)


def finish(
    output: Path | str,
    drives: Sequence[Drive],
    localizer: Localizer,
    setup: Mapping[str, object],
    criteria: Criteria = DEFAULTS,
    references: ImageSource | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Evaluates drives, writes all files, prints tables and notes. See `write_evaluation`."""
    evaluation = judge(localizer.map, drives, setup, criteria)
    write_evaluation(output, evaluation, localizer, references, overwrite)
    console = wide_console()
    for table in tables(evaluation):
        console.print(table)
    for note in evaluation.notes:
        console.print(f"note: {printable(note)}", style="yellow", highlight=False)
    metrics = evaluation.overall.metrics
    images = f"{metrics.judged} of {metrics.queries} images judged by their poses"
    outcomes = Counter(frame.answer.outcome for frame in evaluation.overall.frames)
    for outcome in (UNREADABLE, MISSING):
        if outcomes[outcome]:
            images += f", {outcomes[outcome]} of them {outcome}"
    console.print(printable(f"report: {Path(output) / REPORT} ({images})"))
    return evaluation


def describe_setup(localizer: Localizer, drives: Sequence[object], mode: str) -> dict[str, object]:
    """Describes model, map, settings, machine and command, for the report."""
    runtime = "onnxruntime" if localizer.backend.name.startswith("onnx") else "torch"
    encoders = f"{runtime} {version(runtime)}"
    return {
        "model": localizer.model.label,
        "map": str(localizer.map.directory),
        "map_images": len(localizer.map),
        "drives": [str(path) for path in drives],
        "mode": mode,
        "settings": asdict(localizer.config),
        "backend": localizer.backend.name,
        "device": describe_device(localizer.device),
        "processor": f"{processor_name()}, {threads()} threads",
        "version": f"disam_ros {version('disam_ros')}, {encoders}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def mode_of_node(rate: float) -> str:
    """Describes how fast the running node was evaluated."""
    speed = f"{rate:g} times as recorded" if rate else "as fast as the node answers"
    return f"through the running node, {speed}"


def wide_console() -> Console:
    """Returns the terminal; WIDTH characters where the output is a file or a pipe."""
    width = None if Console().is_terminal else WIDTH
    return Console(width=width, markup=False, emoji=False)


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


def _write(path: Path, poses: list[tuple[EvaluatedFrame, Transform | None]]) -> None:
    rows = [
        (f.answer.record.stamp_ns, (*pose.translation, *pose.quaternion))
        for f, pose in poses
        if pose is not None
    ]
    rows.sort(key=lambda row: row[0])
    path.write_text("".join(f"{tum_line(*row)}\n" for row in rows))
