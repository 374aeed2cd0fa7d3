# SPDX-License-Identifier: Apache-2.0
"""Evaluation of drives: figures by condition, report, comparison of two evaluations."""

from disam_ros.evaluation.baselines import chance, upper_bound
from disam_ros.evaluation.drive import Drive, collect, evaluate_drive
from disam_ros.evaluation.frames import EvaluatedFrame
from disam_ros.evaluation.judge import Condition, Evaluation, judge
from disam_ros.evaluation.metrics import (
    DEFAULTS,
    RECALL_DISTANCE,
    THRESHOLDS,
    Criteria,
    Metrics,
    errors,
    score,
)
from disam_ros.evaluation.results import read_results, write_results
from disam_ros.evaluation.tables import table, tables

__all__ = [
    "DEFAULTS",
    "RECALL_DISTANCE",
    "THRESHOLDS",
    "Condition",
    "Criteria",
    "Drive",
    "EvaluatedFrame",
    "Evaluation",
    "Metrics",
    "chance",
    "collect",
    "errors",
    "evaluate_drive",
    "judge",
    "read_results",
    "score",
    "table",
    "tables",
    "upper_bound",
    "write_results",
]
