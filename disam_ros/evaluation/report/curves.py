# SPDX-License-Identifier: Apache-2.0
"""Plots of probabilities and covariances: precision–recall, histograms, consistency."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from scipy.stats import chi2

from disam_ros.evaluation.confidence import estimation_errors, normalized
from disam_ros.evaluation.frames import estimates
from disam_ros.evaluation.judge import Condition
from disam_ros.evaluation.metrics import Criteria
from disam_ros.evaluation.report.svg import (
    COLOURS,
    FULL,
    HALF,
    label_of,
    named_style,
    new_figure,
    styled,
    to_svg,
)

MAX_VERTICES = 800  # of a curve
BINS = 30  # of a histogram
COLUMNS = 3  # histograms in a row
LEGEND_ROW = 19  # pixels


@styled
def precision_recall_plot(conditions: Mapping[str, Condition]) -> Markup:
    """Draws precision over recall of all conditions that have a curve."""
    figure = new_figure(HALF, 400 + LEGEND_ROW * len(conditions))
    axes = figure.add_subplot()
    for index, (name, condition) in enumerate(conditions.items()):
        curve = condition.curve
        if curve is None:
            continue
        recall, precision = _thinned(curve.recall, curve.precision)
        label = f"{label_of(name)}: area {100 * curve.area:.1f} %"
        axes.plot(recall, precision, lw=2, label=label, clip_on=False, **named_style(index))
    lowest = min(c.curve.precision.min() for c in conditions.values() if c.curve is not None)
    axes.set(xlim=(0, 1), ylim=(min(0.9, np.floor(10 * lowest) / 10), 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set(xlabel="recall: right of possible answers", ylabel="precision: right of given answers")
    _percent(axes)
    figure.legend(loc="outside lower left")
    return to_svg(figure, "Precision over recall")


@styled
def consistency_plot(conditions: Mapping[str, Condition]) -> Markup:
    """Draws the share of position errors inside the confidence ellipsoid over its probability."""
    figure = new_figure(HALF, 400 + LEGEND_ROW * len(conditions))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=COLOURS["muted"], lw=1, ls=(0, (4, 3)))
    for index, (name, condition) in enumerate(conditions.items()):
        errors = normalized_errors(condition)
        if len(errors):
            expected = np.concatenate([[0], np.sort(chi2.cdf(errors, 3)), [1]])
            shares = np.concatenate([[0], (np.arange(len(errors)) + 0.5) / len(errors), [1]])
            x, y = _thinned(expected, shares)
            axes.plot(x, y, lw=2, label=label_of(name), clip_on=False, **named_style(index))
    axes.text(0.04, 0.95, "conservative", color=COLOURS["muted"], va="top")
    axes.text(0.96, 0.05, "overconfident", color=COLOURS["muted"], ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set(xlabel="probability of the ellipsoid", ylabel="share of true positions inside")
    _percent(axes)
    figure.legend(loc="outside lower left")
    return to_svg(figure, "Consistency of the position's covariance")


@styled
def probability_histograms(conditions: Mapping[str, Condition], criteria: Criteria) -> Markup:
    """Draws histograms of the probabilities of right and wrong best matches by condition."""
    groups = {}
    for name, condition in conditions.items():
        frames = [f for f in condition.frames if f.truth is not None and f.best is not None]
        if not frames:
            continue
        right = np.array([f.error_m <= criteria.recall_distance for f in frames], bool)
        probabilities = np.array([f.answer.probability for f in frames])
        groups[name] = (probabilities[~right], probabilities[right])
    edges = np.linspace(0.0, 1.0, BINS + 1)
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(FULL, 190 * rows + 50, hspace=0.06, wspace=0.03)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    colours = [COLOURS["wrong"], COLOURS["right"]]
    for axes, (name, parts) in zip(grid.flat, groups.items(), strict=False):
        labels = ("wrong", "right")
        axes.hist(parts, edges, stacked=True, color=colours, rwidth=0.9, label=labels)
        axes.set_title(label_of(name))
        axes.grid(False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(groups) :]:
        axes.remove()
    figure.supxlabel("probability of the place", fontsize=12, color=COLOURS["muted"])
    figure.supylabel("images", fontsize=12, color=COLOURS["muted"])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, handlelength=1)
    return to_svg(figure, "Probabilities of right and wrong best matches")


def normalized_errors(condition: Condition) -> NDArray[np.float64]:
    """Position NEES, eᵀ Σ⁻¹ e [N], of answers with truth and covariance."""
    triples = estimates(condition.frames)
    if not triples:
        return np.zeros(0)
    gaps, covariances = estimation_errors(triples)
    return normalized(gaps[:, :3], covariances[:, :3, :3])


def _thinned(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keeps at most MAX_VERTICES points of a curve, including its ends."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_VERTICES)).astype(int))
    return x[rows], y[rows]


def _percent(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
