# SPDX-License-Identifier: Apache-2.0
"""report.html of a run: start beside result by condition, recall against steps, worst pairs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from disam_ros.files.writing import atomic_file
from disam_ros.image import encode_jpeg
from training.engine.checkpoints import Progress
from training.engine.validate import Compared, ValidationSet

TEMPLATE = "report.html.j2"
WORST = 6  # pairs that are shown
WIDTH, HEIGHT = 640, 160  # of the curve [px]


@dataclass(frozen=True)
class Mistake:
    """A query answered wrongly; images are data URLs."""

    name: str  # condition, as in the validation
    lead: float  # similarity of the answer minus that of the best right map image
    query: str  # the image
    answer: str  # the map image of another place
    right: str  # the best map image of its place


@dataclass(frozen=True)
class Report:
    """What a report shows."""

    model: str  # name
    progress: Progress  # of the finished run
    images: Mapping[str, int]  # number by domain
    start: Mapping[str, float]  # recall@1 of the start by condition, and their `mean` [%]
    result: Mapping[str, float]  # recall@1 of the model; both empty without validation data
    mistakes: Sequence[Mistake]  # worst first
    notes: Sequence[str]  # sentences on averages and calibration

    @property
    def worse(self) -> bool:
        """Tells whether training did harm on the validation data."""
        return bool(self.result) and self.result["mean"] < self.start["mean"]

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


def worst(entries: Sequence[Compared], validation: ValidationSet, count: int) -> list[Mistake]:
    """Finds the wrong answers with the greatest lead, of queries that have a right map image."""
    ranked = []
    for entry in entries:
        has = entry.right.any(1) & ~entry.answered_right()
        best_right = np.where(entry.right, entry.scores, -np.inf)
        leads = entry.scores.max(1) - best_right.max(1)
        ranked += [
            (float(leads[row]), entry, row) for row in np.flatnonzero(has & (leads < np.inf))
        ]
    ranked.sort(key=lambda item: -item[0])
    mapped = validation.images[validation.reference]
    return [
        Mistake(
            name=entry.name,
            lead=lead,
            query=_picture(validation.images[entry.domain][entry.queries[row]]),
            answer=_picture(mapped[entry.mapped[entry.scores[row].argmax()]]),
            right=_picture(
                mapped[
                    entry.mapped[np.where(entry.right[row], entry.scores[row], -np.inf).argmax()]
                ]
            ),
        )
        for lead, entry, row in ranked[:count]
    ]


def write_report(report: Report, path: Path) -> Path:
    """Write the page; it needs no other file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(report=report, width=WIDTH, height=HEIGHT)
    with atomic_file(path) as file:
        file.write(page)
    return path


def _picture(image: Tensor) -> str:
    """Encodes an image [3, H, W] in [−1, 1] as a data URL."""
    pixels = (127.5 * (image.clamp(-1, 1) + 1)).round().byte().permute(1, 2, 0).contiguous().numpy()
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels)).decode()
