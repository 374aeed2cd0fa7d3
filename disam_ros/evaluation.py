# SPDX-License-Identifier: Apache-2.0
"""How good answers are: shares within pose thresholds, recall, errors; and tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.table import Table
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform

THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # metres, degrees (visuallocalization.net)
RECALL_DISTANCE = 5.0  # metres within which the first answer counts as the right place


@dataclass(frozen=True)
class Metrics:
    """Figures of one condition. Shares are of all queries, answered or not; nan: no answer."""

    queries: int
    answered: float  # share of queries with an answer
    within: dict[str, float]  # share within each pose threshold, "0.25 m 2°" → 0…1
    recall_at_1: float  # share of queries whose answer lies within RECALL_DISTANCE
    median_error_m: float  # over answered queries
    median_error_deg: float

    def to_json(self) -> dict:
        return asdict(self)


def errors(
    truth: Sequence[Transform], answers: Sequence[Transform | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Translation (metres) and rotation (degrees) errors [N]; infinite where unanswered."""
    metres = np.full(len(truth), np.inf)
    degrees = np.full(len(truth), np.inf)
    known = [i for i, answer in enumerate(answers) if answer is not None]
    if known:
        a, b = [truth[i] for i in known], [answers[i] for i in known]
        gaps = np.stack([t.translation for t in a]) - np.stack([t.translation for t in b])
        metres[known] = np.linalg.norm(gaps, axis=1)
        one = Rotation.from_quat(np.stack([t.quaternion for t in a]))
        two = Rotation.from_quat(np.stack([t.quaternion for t in b]))
        degrees[known] = np.degrees((one.inv() * two).magnitude())
    return metres, degrees


def score(truth: Sequence[Transform], answers: Sequence[Transform | None]) -> Metrics:
    """Metrics of answers against true poses of the same frames."""
    metres, degrees = errors(truth, answers)
    known = np.isfinite(metres)
    return Metrics(
        queries=len(truth),
        answered=_mean(known),
        within={f"{m:g} m {d:g}°": _mean((metres <= m) & (degrees <= d)) for m, d in THRESHOLDS},
        recall_at_1=_mean(metres <= RECALL_DISTANCE),
        median_error_m=float(np.median(metres[known])) if known.any() else float("nan"),
        median_error_deg=float(np.median(degrees[known])) if known.any() else float("nan"),
    )


def chance(truth: Sequence[Transform], references: Sequence[Transform]) -> Metrics:
    """What answering with a map image drawn at random scores on average."""
    every = [score([pose] * len(references), references) for pose in truth]
    return Metrics(
        queries=len(truth),
        answered=1.0,
        within={key: _mean([m.within[key] for m in every]) for key in every[0].within},
        recall_at_1=_mean([m.recall_at_1 for m in every]),
        median_error_m=float(np.median([m.median_error_m for m in every])),
        median_error_deg=float(np.median([m.median_error_deg for m in every])),
    )


def upper_bound(truth: Sequence[Transform], references: Sequence[Transform]) -> Metrics:
    """What answering with the nearest map image scores: no retrieval can do better."""
    positions = np.stack([pose.translation for pose in references])
    nearest = [
        references[int(np.linalg.norm(positions - pose.translation, axis=1).argmin())]
        for pose in truth
    ]
    return score(truth, nearest)


def table(title: str, rows: Mapping[str, Metrics]) -> Table:
    """A terminal table, one row per method or condition."""
    thresholds = [f"{m:g} m {d:g}°" for m, d in THRESHOLDS]
    result = Table(title=title, title_justify="left")
    result.add_column("", no_wrap=True)
    for name in ("queries", "answered", *thresholds, f"R@1 {RECALL_DISTANCE:g} m", "median error"):
        result.add_column(name, justify="right", no_wrap=True)
    for name, m in rows.items():
        shares = [m.answered, *(m.within[t] for t in thresholds), m.recall_at_1]
        cells = [f"{100 * share:.1f}" for share in shares]
        error = f"{m.median_error_m:.2f} m {m.median_error_deg:.1f}°"
        result.add_row(name, str(m.queries), *cells, error)
    return result


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
