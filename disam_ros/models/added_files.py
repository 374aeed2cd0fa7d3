# SPDX-License-Identifier: Apache-2.0
"""Files that a model directory gets later: domain classifier, directions of coarse descriptors,
ranges of activations.

They are no part of the model's identity: its maps stay valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from disam_ros.domains.classifier import DomainClassifier
from disam_ros.errors import ModelError
from disam_ros.models import model_files
from disam_ros.models.onnx_runtime import ranges as activation_ranges
from disam_ros.models.onnx_runtime.ranges import StoredRanges
from disam_ros.models.projection import FILE, NAME, Projection, write_projection

CLASSIFIER = "domain"  # the classifier's file and its key under sha256
ADDED = (f"{CLASSIFIER}.safetensors", FILE, activation_ranges.FILE, "calibration.json")


def add_classifier(
    directory: Path | str, classifier: DomainClassifier, provenance: Mapping[str, Any]
) -> None:
    """Add a domain classifier to a model directory, or replace its classifier.

    provenance: stored in model.json, under training["domain_classifier"]. The model's identity does
    not change, so its maps stay valid. After a kill at any moment the directory still loads:
    model.json lists the file only while its checksum is valid. Raises ModelError.
    """
    directory = Path(directory)
    path = directory / f"{CLASSIFIER}.safetensors"
    with _header(directory) as header:
        classifier.require_domains([domain["name"] for domain in header["domains"]])
        _forget(directory, header, CLASSIFIER, "domain_classifier")
        header["sha256"][CLASSIFIER] = model_files.write_arrays(path, classifier.weights)
        header["training"]["domain_classifier"] = dict(provenance)


def add_projection(
    directory: Path | str, projection: Projection, provenance: Mapping[str, Any]
) -> None:
    """Add directions to a model directory, or replace them; as `add_classifier`.

    Maps built with directions that are replaced have to be built again. Raises ModelError.
    """
    directory = Path(directory)
    with _header(directory) as header:
        _forget(directory, header, NAME, NAME)
        header["sha256"][NAME] = write_projection(directory, projection)
        header["training"][NAME] = dict(provenance)


def add_ranges(directory: Path | str, ranges: StoredRanges, provenance: Mapping[str, Any]) -> None:
    """Add ranges of activations to a model directory, or replace them; as `add_classifier`."""
    directory, name = Path(directory), activation_ranges.NAME
    with _header(directory) as header:
        _forget(directory, header, name, name)
        header["sha256"][name] = activation_ranges.write_ranges(directory, ranges)
        header["training"][name] = dict(provenance)


@contextmanager
def _header(directory: Path) -> Iterator[dict[str, Any]]:
    """Entries of model.json, which are written at the end of the block. Raises ModelError."""
    header = {k: v for k, v in model_files.read_header(directory).items() if v is not None}
    header.setdefault("training", {})
    try:
        yield header
        model_files.write_header(directory, header)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{directory / 'model.json'} is malformed: {error}") from error
    except OSError as error:
        raise ModelError(f"{directory} cannot be written: {error.strerror}") from error


def _forget(directory: Path, header: dict[str, Any], key: str, topic: str) -> None:
    """Write model.json without a file and its provenance, before the file is replaced."""
    if header["sha256"].pop(key, None) is not None:
        header["training"].pop(topic, None)
        model_files.write_header(directory, header)
