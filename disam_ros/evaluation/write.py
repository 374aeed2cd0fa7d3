# SPDX-License-Identifier: Apache-2.0
"""The directory of an evaluation: report.html, results.json, answers.csv, trajectories/."""

from __future__ import annotations

import shutil
from pathlib import Path

from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import DatasetError
from disam_ros.evaluation.answers import write_answers
from disam_ros.evaluation.judge import Evaluation
from disam_ros.evaluation.report import choose, load, write_report
from disam_ros.evaluation.results import write_results
from disam_ros.evaluation.trajectories import write_trajectories
from disam_ros.files import atomic_directory
from disam_ros.localization.localizer import Localizer

REPORT, RESULTS = "report.html", "results.json"
ANSWERS, TRAJECTORIES = "answers.csv", "trajectories"


def refuse_foreign(output: Path | str) -> None:
    """Raise DatasetError unless `output` is absent, empty or an evaluation, to be replaced."""
    output = Path(output)
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / RESULTS).exists()):
        raise DatasetError(f"{output} exists and holds no evaluation: choose another directory")


def write_evaluation(
    output: Path | str,
    evaluation: Evaluation,
    localizer: Localizer,
    references: ImageSource | None = None,
) -> None:
    """Write everything into a directory, which appears when it is complete.

    references: the drive the map was made of, so that the report can show its images. Raises
    DatasetError where the directory holds something else.
    """
    output = Path(output)
    refuse_foreign(output)
    with atomic_directory(output) as part:
        write_results(part / RESULTS, evaluation)
        frames = evaluation.overall.frames
        write_answers(part / ANSWERS, (frame.answer for frame in frames))
        write_trajectories(part / TRAJECTORIES, evaluation)
        examples = load(choose(evaluation), localizer, references)
        write_report(part / REPORT, evaluation, examples, localizer.map)
        shutil.rmtree(output, ignore_errors=True)  # the evaluation that is replaced
