# SPDX-License-Identifier: Apache-2.0
"""Pictures of figures against training steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Line = dict[int, list[float]]  # by step a value of each seed


def line_of(curves: Mapping[str, Mapping[str, Any]], value: Callable[[Any], float]) -> Line:
    """Returns the line of a row. curves: by seed and step its points; value: of a point."""
    first = next(iter(curves.values()))
    return {int(step): [value(points[step]) for points in curves.values()] for step in first}


def draw_curves(path: Path, panels: Mapping[str, Mapping[str, Line]], unit: str) -> None:
    """Draws lines by panel and name: the mean of the seeds, from the least to the most shaded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(panels), 4.2), layout="constrained")
    axis = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, lines) in zip(axis, panels.items(), strict=True):
        for name, line in lines.items():
            (drawn,) = axes.plot(line.keys(), [sum(v) / len(v) for v in line.values()], label=name)
            least, most = zip(*((min(v), max(v)) for v in line.values()), strict=True)
            axes.fill_between(line.keys(), least, most, color=drawn.get_color(), alpha=0.12)
        axes.set(title=title, xlabel="steps", ylabel=unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=80)
