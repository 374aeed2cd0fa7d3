# SPDX-License-Identifier: Apache-2.0
"""report.html of a run: start beside result by condition, recall against steps, worst pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from disam_ros.files.html import render
from disam_ros.files.writing import atomic_file
from training.engine.checkpoints import Progress
from training.engine.judgement import Judgement

TEMPLATE = "report.html.j2"
WIDTH, HEIGHT = 640, 160  # of the curve [px]


@dataclass(frozen=True)
class Report:
    """What a report shows."""

    model: str  # name
    progress: Progress  # of the finished run
    images: Mapping[str, int]  # number by domain
    judgement: Judgement | None  # None without validation data
    notes: Sequence[str]  # sentences on averages and calibration

    def curves(self) -> dict[str, str]:
        """Draws the mean recall against steps: points of an SVG polyline by stage."""
        stages: dict[str, list[tuple[float, float]]] = {}
        for entry in self.progress.history:
            stages.setdefault(entry["stage"], []).append((entry["step"], entry["mean"]))
        curves = {}
        for name, points in stages.items():
            last = max(step for step, _ in points) or 1
            curves[name] = " ".join(
                f"{WIDTH * step / last:.1f},{HEIGHT * (1 - mean / 100):.1f}"
                for step, mean in points
            )
        return curves


def write_report(report: Report, path: Path) -> Path:
    """Write the page; it needs no other file."""
    values = {"report": report, "width": WIDTH, "height": HEIGHT}
    page = render("training.engine", TEMPLATE, values)
    with atomic_file(path) as file:
        file.write(page)
    return path
