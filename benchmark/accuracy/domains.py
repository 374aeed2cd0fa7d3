# SPDX-License-Identifier: Apache-2.0
"""Accuracy and confusion of the shipped domain classifier on images it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from disam_ros import image
from disam_ros.datasets.dataset import Dataset
from disam_ros.demo.drives import CONDITIONS, DATA, read_drive
from disam_ros.domains.classifier import DomainClassifier, accuracy, confusion
from disam_ros.models.model import load_model
from training.data.sources import WEBCAMS
from training.domain_classifier import open_store, samples

SHIPPED = Path(__file__).parents[2] / "models" / "outdoor"
WEBCAM_DATA = Path("data/dnim/test")

Sample = tuple[NDArray[Any], str]  # uint8 RGB [H, W, 3] and its true domain


def measure(webcams: Path = WEBCAM_DATA, model: Path = SHIPPED) -> dict[str, Any]:
    """Figures by kind of images; empty without a classifier.

    webcams: folder with one folder of images per fixed camera; their images by day are of an
    unknown season: any day is right.
    """
    results = {}
    classifier = _classifier(model)
    if classifier is None:
        return {}
    if DATA.is_dir() and set(CONDITIONS) <= set(classifier.domains):
        results["town"] = _figures(classifier, "the demo's drives", _town_samples())
    if webcams.is_dir():
        store = open_store([f"{WEBCAMS}{webcams}"], ("day", "night"))
        by_light = {light: {"day": 0, "night": 0} for light in ("day", "night")}
        for picture, light in samples(store, ("day", "night")):
            name, _ = classifier.classify(picture)
            by_light[light]["night" if name == "night" else "day"] += 1
        results["webcams"] = _summary("webcams", by_light)
    return results


def _classifier(directory: Path) -> DomainClassifier | None:
    return load_model(directory).classifier if directory.is_dir() else None


def _figures(classifier: DomainClassifier, data: str, samples: Iterator[Sample]) -> dict[str, Any]:
    return _summary(data, confusion(classifier, samples))


def _summary(data: str, table: dict[str, dict[str, int]]) -> dict[str, Any]:
    images = sum(sum(row.values()) for row in table.values())
    return {"data": data, "images": images, "accuracy": accuracy(table), "confusion": table}


def _town_samples() -> Iterator[Sample]:
    reference = Dataset(DATA / "reference")
    for record in reference.records:
        yield image.read(reference.path(record)), record.domain
    for condition in CONDITIONS:
        for picture in read_drive(DATA / condition).images:
            yield picture, condition
