# SPDX-License-Identifier: Apache-2.0
"""Accuracy and confusion of the shipped domain classifiers on images they were not trained on."""

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
