# SPDX-License-Identifier: Apache-2.0
"""How well the shipped models' domain classifiers name images that they were not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from demo.drives import CONDITIONS, DATA, read_drive
from disam_ros import image
from disam_ros.datasets.dataset import Dataset
from disam_ros.domains.classifier import DomainClassifier, accuracy, confusion
from disam_ros.models.model import load_model
from training.data.sources import WEBCAMS
from training.domain_classifier import open_store, samples

MODELS = Path(__file__).parents[2] / "models"
WEBCAM_DATA = Path("data/dnim/test")

Sample = tuple[np.ndarray, str]  # uint8 RGB [H, W, 3] and its true domain


def measure(webcams: Path = WEBCAM_DATA, models: Path = MODELS) -> dict:
    """Figures by model; a model without classifier or data is left out.

    webcams: folder with one folder of images per fixed camera, for the day and night model.
    """
    results = {}
    town, daynight = (_classifier(models / name) for name in ("town-lite", "daynight-lite"))
    if town is not None and DATA.is_dir():
        results["town-lite"] = _figures(town, "the demo's drives", _town_samples())
    if daynight is not None and webcams.is_dir():
        store = open_store([f"{WEBCAMS}{webcams}"], daynight.domains)
        webcam_samples = samples(store, daynight.domains)
        results["daynight-lite"] = _figures(daynight, "webcams", webcam_samples)
    return results


def render(results: dict) -> str:
    """The figures as a section of a page."""
    lines = [
        "## Domain from the image\n",
        "Images named right by the domain classifier (`localizer.domain.from_image`), one by one, "
        "without clock, sun or weather. Webcams count as day or night by the brightness of their "
        "sky, not by hand; the classifier's last weights are taken, none chosen on them.\n",
        "`python -m benchmark.accuracy domains`\n",
    ]
    if not results:
        lines.append("Not measured: no model with a domain classifier, or no data.")
    else:
        lines += [
            "| model | data | true domain | images | right, percent | named instead |",
            "|---|---|---|---|---|---|",
        ]
    for model, result in results.items():
        for domain, row in result["confusion"].items():
            cells = [model, result["data"], domain, *_cells(domain, row)]
            lines.append(f"| {' | '.join(cells)} |")
        total = [model, result["data"], "all", str(result["images"])]
        lines.append(f"| {' | '.join(total)} | {100 * result['accuracy']:.1f} | |")
    return "\n".join(lines) + "\n"


def _cells(domain: str, row: dict[str, int]) -> list[str]:
    """Images, percent right, and what the others are named."""
    count = sum(row.values())
    wrong = [f"{name} {n}" for name, n in row.items() if n and name != domain]
    return [str(count), f"{100 * row.get(domain, 0) / count:.1f}", ", ".join(wrong)]


def _classifier(directory: Path) -> DomainClassifier | None:
    return load_model(directory).classifier if directory.is_dir() else None


def _figures(classifier: DomainClassifier, data: str, samples: Iterator[Sample]) -> dict:
    table = confusion(classifier, samples)
    images = sum(sum(row.values()) for row in table.values())
    return {"data": data, "images": images, "accuracy": accuracy(table), "confusion": table}


def _town_samples() -> Iterator[Sample]:
    reference = Dataset(DATA / "reference")
    for record in reference.records:
        yield image.read(reference.path(record)), record.domain
    for condition in CONDITIONS:
        for picture in read_drive(DATA / condition).images:
            yield picture, condition
