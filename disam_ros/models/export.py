# SPDX-License-Identifier: Apache-2.0
"""ONNX export of a model: one file per domain with both encoders, for ONNX Runtime and TensorRT.

backend.py describes the file format.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from disam_ros.errors import ConfigError, DomainError, ModelError
from disam_ros.files.outputs import EXPORT, atomic_directory
from disam_ros.models.arrays import Array, as_numpy
from disam_ros.models.backend import (
    EXPORT_FORMAT,
    INPUT,
    OUTPUTS,
    open_session,
    run_session,
    write_checksums,
)
from disam_ros.models.imported import ImportedConfig
from disam_ros.models.model import Model

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
OLDEST_TORCH = (2, 6)  # the first whose exporter supports dynamic shapes
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # largest difference of a feature, relative to the largest feature
CHECK_BATCHES = (1, 3)


class EncoderPair(nn.Module):
    """Both encoders of a domain: images [B, 3, H, W] → coarse and fine features [B, C, h, w]."""

    def __init__(self, coarse: nn.Module, fine: nn.Module) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        z = self.coarse(image)
        return z, z.clone() if self.fine is self.coarse else self.fine(image)


def export_onnx(
    model: Model, directory: Path | str, domains: Sequence[str] = (), overwrite: bool = False
) -> dict[str, float]:
    """Write `<directory>/<domain>.onnx`, for all domains or some, on the CPU, and their checksums.

    Each file is run by ONNX Runtime and compared with torch. Returns the largest relative error by
    domain. The directory appears when all files are verified, or not at all. Raises ConfigError for
    a missing package, DomainError for an unknown domain, ModelError for an imported model and where
    features differ from torch's by more than TOLERANCE, OutputError. overwrite: an export that is
    there.
    """
    directory = Path(directory)
    if isinstance(model.network, ImportedConfig):
        raise ModelError(
            f"model '{model.name}' was imported: it is an ONNX file already, "
            f"{model.network.files[0]}, which localizers run without an export"
        )
    _require_packages()
    if not model.identity:
        raise ModelError("the model was never saved: an export needs a saved model to refer to")
    if unknown := sorted(set(domains) - set(model.domain_names())):
        raise DomainError(
            f"model '{model.name}' has no domain {', '.join(unknown)}, only "
            f"{', '.join(model.domain_names())}"
        )
    names = domains or model.domain_names()
    with atomic_directory(directory, EXPORT, overwrite) as part:
        found = {name: _export_domain(model, name, part / f"{name}.onnx") for name in names}
        write_checksums(part)
        return found


def to_onnx(network: nn.Module, size: tuple[int, int], outputs: Sequence[str]) -> ModelProto:
    """A network over images [B, 3, *size] as an ONNX graph with any batch size B."""
    images = torch.zeros(2, 3, *size)
    with _quiet():
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None  # since dynamo is set
    proto = program.model_proto
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]  # source paths of the exporting machine
    return proto


def relative_error(values: Array, expected: Array) -> float:
    """Largest difference, relative to the largest expected magnitude."""
    found, known = as_numpy(values), as_numpy(expected)
    return float(np.abs(found - known).max() / max(float(np.abs(known).max()), 1e-12))


def _export_domain(model: Model, domain: str, path: Path) -> float:
    """Write and verify one file. Returns its largest relative error."""
    import onnx

    pair = EncoderPair(model.coarse[domain], model.fine[domain]).eval()
    proto = to_onnx(pair, model.network.image_size, OUTPUTS)
    facts = {
        "format_version": str(EXPORT_FORMAT),
        "model_identity": model.identity,
        "model_name": model.name,
        "domain": domain,
        "input": "RGB [B, 3, H, W], resized uint8 / 127.5 − 1",
    }
    onnx.helper.set_model_props(proto, facts)
    path.write_bytes(proto.SerializeToString())
    session = open_session(path)
    error = 0.0
    for batch in CHECK_BATCHES:
        generator = torch.Generator().manual_seed(batch)
        images = torch.rand(batch, 3, *model.network.image_size, generator=generator) * 2 - 1
        with torch.inference_mode():
            expected = pair(images)
        found = run_session(session, images.numpy())
        pairs = zip(found, expected, strict=True)
        error = max(error, *(relative_error(z, z_torch.numpy()) for z, z_torch in pairs))
    if not error <= TOLERANCE:  # also for nan
        raise ModelError(
            f"the exported file of domain '{domain}' differs from torch by {error:.1e} of the "
            f"largest feature, expected at most {TOLERANCE:.0e}; try other versions of "
            f"{', '.join(PACKAGES)}"
        )
    return error


def _require_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the export needs the packages {', '.join(missing)}: pip install {' '.join(missing)}"
        )
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        oldest = ".".join(str(part) for part in OLDEST_TORCH)
        raise ConfigError(f"the export needs torch {oldest} or newer, found {torch.__version__}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's log messages and warnings, of which there are hundreds."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [exporter.level for exporter in loggers]
    for exporter in loggers:
        exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for exporter, level in zip(loggers, levels, strict=True):
            exporter.setLevel(level)
