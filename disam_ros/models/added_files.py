# SPDX-License-Identifier: Apache-2.0
"""Files that a model directory gets later: domain classifier, directions of coarse descriptors,
encoders as ONNX files.

They are no part of the model's identity: its maps stay valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from disam_ros.domains.classifier import DomainClassifier
from disam_ros.errors import ModelError
from disam_ros.files.writing import alone_in, file_sha256
from disam_ros.models import model_files
from disam_ros.models.projection import FILE, NAME, write_projection
from disam_ros.models.similarity import Projection

CLASSIFIER = "domain"  # the classifier's file and its key under sha256
ADDED = (f"{CLASSIFIER}.safetensors", FILE, "calibration.json")


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
        _forget(directory, header, "domain_classifier", CLASSIFIER)
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


@contextmanager
def adding_onnx(
    directory: Path, precision: str, provenance: Mapping[str, Any] | None = None
) -> Iterator[Callable[[str], Path]]:
    """Adds ONNX files of a precision to a model directory, or replaces them; as `add_classifier`.

    Gives the path that a domain's file is to be written to. Raises ModelError.
    """
    with _header(directory) as header:
        names = {d["name"]: onnx_file(d["name"], precision) for d in header["domains"]}
        _forget(directory, header, precision, *names.values())
        yield lambda domain: directory / names[domain]
        header["sha256"] |= {name: file_sha256(directory / name) for name in names.values()}
        if provenance is not None:
            header["training"][precision] = dict(provenance)


def onnx_file(domain: str, precision: str) -> str:
    """Name of a domain's encoders as an ONNX file. precision: float32 or int8."""
    return f"{domain}.onnx" if precision == "float32" else f"{domain}.{precision}.onnx"


@contextmanager
def _header(directory: Path) -> Iterator[dict[str, Any]]:
    """Entries of model.json, which are written at the end of the block. Raises ModelError.

    Another command that adds to the model meanwhile waits, and adds to what this one wrote.
    """
    model_files.read_header(directory)  # there is one, or it says what is missing
    try:
        with alone_in(directory):
            values = model_files.read_header(directory).items()
            header = {"training": {}} | {k: v for k, v in values if v is not None}
            yield header
            model_files.write_header(directory, header)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{directory / 'model.json'} is malformed: {error}") from error
    except OSError as error:
        raise ModelError(f"{directory} cannot be written: {error.strerror}") from error


def _forget(directory: Path, header: dict[str, Any], topic: str, *files: str) -> None:
    """Writes model.json without files and their provenance, before these are replaced."""
    if any([header["sha256"].pop(file, None) for file in files]):
        header["training"].pop(topic, None)
        model_files.write_header(directory, header)
