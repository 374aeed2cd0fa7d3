# SPDX-License-Identifier: Apache-2.0
"""ONNX files of a model directory: one per domain with its encoders, for ONNX Runtime and TensorRT.

`<domain>.onnx` maps `image` float32 [B, 3, H, W] in [−1, 1], as image.to_tensor gives it, to
features [B, C, h, w]: `z_coarse` and `z_fine`, or `z` where they are the same. It holds the graph;
its weights are those of the safetensors beside it, which it refers to as external data.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.writing import atomic_file
from disam_ros.models.added_files import adding_onnx
from disam_ros.models.arrays import Array, as_numpy
from disam_ros.models.kinds import STAGES
from disam_ros.models.model import PRECISIONS, Model, load_model
from disam_ros.models.onnx_backend import INPUT, is_imported, open_session

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

logger = logging.getLogger(__name__)

OPSET = 18
OLDEST_TORCH = (2, 6)  # the first whose exporter supports dynamic shapes
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # largest difference of a feature, relative to the largest feature
CHECK_BATCHES = (1, 3)
TYPES = {"F16": "FLOAT16", "F32": "FLOAT"}  # of safetensors, as ONNX names them


class EncoderStages(nn.Module):
    """Encoders of a domain: images [B, 3, H, W] → features [B, C, h, w] of each stage."""

    def __init__(self, model: Model, domain: str) -> None:
        super().__init__()
        stages = (
            {"shared": model.fine}
            if model.shared
            else dict(zip(STAGES, (model.coarse, model.fine), strict=True))
        )
        for stage, encoders in stages.items():
            self.add_module(stage, encoders[domain])
        self.outputs = ["z"] if model.shared else [f"z_{stage}" for stage in STAGES]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(encoder(image) for encoder in self.children())


def export_onnx(directory: Path | str) -> dict[str, float]:
    """Writes `<domain>.onnx` for all domains into a model directory, in place of earlier ones.

    Each file is run by ONNX Runtime and compared with torch. Returns the largest relative error by
    domain. Raises ConfigError for a missing package, ModelError for an imported model and where
    features differ from torch's by more than TOLERANCE.
    """
    model = load_model(directory)
    if is_imported(model):
        raise ModelError(
            f"model '{model.name}' was imported: it is an ONNX file already, "
            f"{model.kind.files(True)[0]}, which localizers run without an export"
        )
    _require_packages()
    assert model.directory is not None
    with adding_onnx(model.directory, PRECISIONS[0]) as path_of:
        return {name: _export_domain(model, name, path_of(name)) for name in model.domain_names()}


def add_onnx(directory: Path | str) -> None:
    """Writes the ONNX files of a new model; without the packages logs how to do it later."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        export_onnx(directory)
        return
    logger.warning(
        "no ONNX files, as %s is not installed: pip install 'disam_ros[onnx]', then disam export "
        "--model %s",
        ", ".join(missing),
        directory,
    )


def encoder_graph(model: Model, domain: str) -> ModelProto:
    """Exports the encoders of a domain with their weights."""
    stages = EncoderStages(model, domain).eval()
    return to_onnx(stages, model.network.image_size, stages.outputs)


def to_onnx(network: nn.Module, size: tuple[int, int], outputs: Sequence[str]) -> ModelProto:
    """Exports a network over images [B, 3, *size] with any batch size B."""
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
    a, b = as_numpy(values), as_numpy(expected)
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12))


def _export_domain(model: Model, domain: str, path: Path) -> float:
    """Writes and verifies the file of a domain. Returns its largest relative error."""
    import onnx

    proto = encoder_graph(model, domain)
    _refer(proto, model, domain)
    facts = {
        "model_identity": model.identity,
        "model_name": model.name,
        "domain": domain,
        "input": "RGB [B, 3, H, W], resized uint8 / 127.5 − 1",
    }
    onnx.helper.set_model_props(proto, facts)
    with atomic_file(path, "wb") as file:
        file.write(proto.SerializeToString())
    error = _error(path, EncoderStages(model, domain).eval(), model.network.image_size)
    if not error <= TOLERANCE:  # also for nan
        path.unlink()
        raise ModelError(
            f"the exported file of domain '{domain}' differs from torch by {error:.1e} of the "
            f"largest feature, expected at most {TOLERANCE:.0e}; try other versions of "
            f"{', '.join(PACKAGES)}"
        )
    return error


def _error(path: Path, stages: EncoderStages, size: tuple[int, int]) -> float:
    """Largest relative error of a file's features, beside torch's."""
    session, errors = open_session(path), []
    for batch in CHECK_BATCHES:
        generator = torch.Generator().manual_seed(batch)
        images = torch.rand(batch, 3, *size, generator=generator) * 2 - 1
        with torch.inference_mode():
            expected = stages(images)
        features = session.run(None, {INPUT: images.numpy()})
        errors += [relative_error(z, y.numpy()) for z, y in zip(features, expected, strict=True)]
    return max(errors)


def _refer(proto: ModelProto, model: Model, domain: str) -> None:
    """Replaces the weights of a graph by references to the files that hold them."""
    from onnx import TensorProto, helper

    stored = _stored_weights(model, domain)
    casts, constants = [], list(proto.graph.initializer)
    for k, tensor in enumerate(constants):
        if tensor.name not in stored:
            continue
        constants[k] = stored[tensor.name]
        casts.append(
            helper.make_node("Cast", [constants[k].name], [tensor.name], to=TensorProto.FLOAT)
        )
    nodes = [*casts, *proto.graph.node]
    for field, values in (("initializer", constants), ("node", nodes)):
        proto.graph.ClearField(field)
        getattr(proto.graph, field).extend(values)


def _stored_weights(model: Model, domain: str) -> dict[str, TensorProto]:
    """Weights in the files of a model directory, by the names of parameters of `EncoderStages`."""
    from onnx import TensorProto

    assert model.directory is not None
    stages = ["shared"] if model.shared else list(STAGES)
    name, tensors = model.network_names()[domain], {}
    for stage, file in zip(stages, model.kind.files(model.shared), strict=True):
        path = model.directory / f"{file}{model.kind.suffix}"
        header, start = _safetensors_header(path)
        for key, entry in header.items():
            if not key.startswith(f"{name}/") or entry["dtype"] not in TYPES:
                continue
            first, last = entry["data_offsets"]
            tensor = TensorProto(
                name=f"{file}/{key}",
                data_type=TensorProto.DataType.Value(TYPES[entry["dtype"]]),
                dims=entry["shape"],
                data_location=TensorProto.EXTERNAL,
            )
            place = {"location": path.name, "offset": start + first, "length": last - first}
            for what, value in place.items():
                tensor.external_data.add(key=what, value=str(value))
            tensors[f"{stage}.{key.removeprefix(f'{name}/')}"] = tensor
    return tensors


def _safetensors_header(path: Path) -> tuple[Mapping[str, Any], int]:
    """Entries of a safetensors file by name, and where its numbers begin [bytes]."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {key: entry for key, entry in header.items() if key != "__metadata__"}, 8 + size


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
