# SPDX-License-Identifier: Apache-2.0
"""Import of an ONNX network as a model: checks by running it, then a model directory."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.outputs import MANIFEST, MODEL, require_output
from disam_ros.files.writing import PART
from disam_ros.image import network_input
from disam_ros.models.added_files import ADDED
from disam_ros.models.imported import (
    ImportedConfig,
    OnnxNetwork,
    allows_commercial_use,
    normalized,
    one_by_one,
    one_line,
    open_session,
    run,
)
from disam_ros.models.model import Model, load_model, save_model
from disam_ros.models.protobuf import GRAPH, require_messages

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

logger = logging.getLogger(__name__)

PACKAGES = ("onnx", "onnxruntime")
RESERVED = ("model.json", "domain", "directions", "onnx", *ADDED, MANIFEST, MANIFEST + PART)
MIN_CHANGE = 1e-6  # of an output from image to image, relative to its largest value
MAX_BATCH_ERROR = 1e-3  # of an output in a batch, likewise
MAX_REPEAT_ERROR = 1e-4  # of an output for the same image again, likewise
LARGEST = 1 << 31  # size of an ONNX file, which Protobuf limits [bytes]
NUMBERS = re.compile(r"tensor\((float16|float|double|u?int\d+)\)")
EXPECTED_INPUT = "images float32 [B, 3, H, W]"
EXPECTED_OUTPUT = "a descriptor [B, D] or a feature map [B, C, h, w]"


def import_model(
    file: Path | str,
    output: Path | str,
    name: str,
    licence: str,
    image_size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    domains: Sequence[Domain] = (Domain("any"),),
    source: str = "",
    output_name: str = "",
    overwrite: bool = False,
) -> Model:
    """Check an ONNX file by running it and write a model directory around a copy of it.

    file: maps images [B, 3, H, W], (RGB in [0, 1] − mean) / std, to a descriptor [B, D] or a
    feature map [B, C, h, w]. image_size: (H, W) of its input [px]. output_name: needed where the
    file has several outputs. source: where it is from. Returns the model, loaded from `output`.
    The identity covers the file, image_size, mean, std and output_name. Raises ConfigError for a
    missing package, ModelError for a file that does not fit, OutputError (see `save_model`).
    """
    file, output = Path(file), Path(output)
    _require_packages()
    if not name or not licence.strip():
        raise ModelError("an imported model needs a name and the licence of its weights")
    require_output(output, MODEL, overwrite)
    if not domains:
        raise ModelError("a model needs at least one domain, got none")
    draft = ImportedConfig(image_size, mean, std, (file.name, *_side_files(file)), output_name, 1)
    config = _inspect(file, draft)
    network = OnnxNetwork(config, file.parent)
    encoders = {domain.name: network for domain in domains}
    provenance = {
        "imported_from": file.name,
        "source": source,
        "licence": licence,
        "commercial_use": allows_commercial_use(licence),
    }
    model = Model(config, list(domains), encoders, encoders, name=name, training=provenance)
    if model.training["commercial_use"] is False:
        logger.warning("the licence of model '%s', %s, forbids commercial use", name, licence)
    return load_model(save_model(model, output, overwrite=overwrite))


def _require_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"importing a model needs the packages {', '.join(missing)}: "
            f"pip install 'disam_ros[onnx]'"
        )


def _side_files(file: Path) -> list[str]:
    """Names of the files next to it with external weights. Raises ModelError."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    if not file.is_file():
        raise ModelError(f"{file} not found: expected an ONNX file")
    require_messages(file, LARGEST, GRAPH)
    try:
        graph = onnx.load(str(file), format="protobuf", load_external_data=False).graph
    except Exception as error:  # protobuf's, and OSError
        raise ModelError(f"{file} cannot be read as an ONNX file: {one_line(error)}") from error
    tensors = [tensor for tensor in _tensors(graph) if uses_external_data(tensor)]
    names = list(dict.fromkeys(ExternalDataInfo(tensor).location for tensor in tensors))
    for name in names:
        if Path(name).name != name or name in (file.name, *RESERVED):
            raise ModelError(
                f"{file} has weights in '{name}', expected a file of another name next to it; "
                f"save it again with onnx.save_model, its weights inside"
            )
        if not (file.parent / name).is_file():
            raise ModelError(
                f"{file} has weights in {file.parent / name}, which is missing: copy both files"
            )
    if file.name in RESERVED:
        raise ModelError(
            f"an ONNX file cannot be named {file.name} in a model directory: rename it"
        )
    return names


def _tensors(graph: Any) -> list[Any]:
    """Weights and constants of a graph and its subgraphs (onnx.TensorProto)."""
    tensors = list(graph.initializer)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        tensors += [attribute.t, *attribute.tensors]
        for inner in (attribute.g, *attribute.graphs):
            tensors += _tensors(inner)
    return tensors


def _inspect(file: Path, draft: ImportedConfig) -> ImportedConfig:
    """Complete a configuration with the shape of the output, by running the network."""
    session = open_session(file, CPU)
    fixed_batch = _check_input(file, session, draft.image_size)
    output = _choose_output(file, session, draft.output)
    images = normalized(_test_images(draft.image_size), draft.mean, draft.std)
    try:
        singles = [run(session, output, image) for image in one_by_one(images)]
        again = run(session, output, images[:1])
    except Exception as error:
        height, width = draft.image_size
        raise ModelError(
            f"{file} does not run on an image of {height}x{width} pixels: {one_line(error)}; give "
            f"the size that it was exported for as --input"
        ) from error
    _check_output(file, output, singles)
    if again.shape != singles[0].shape or _change(again, singles[0]) > MAX_REPEAT_ERROR:
        raise ModelError(
            f"{file}: output '{output}' differs when the same image is run again; export it in "
            "evaluation mode, without dropout or random layers"
        )
    shape = singles[0].shape
    return ImportedConfig(
        image_size=draft.image_size,
        mean=draft.mean,
        std=draft.std,
        files=draft.files,
        output=output,
        channels=shape[1],
        feature_size=(shape[2], shape[3]) if len(shape) == 4 else (1, 1),
        any_batch=not fixed_batch and _takes_batches(file, session, output, images, singles),
    )


def _check_input(file: Path, session: InferenceSession, size: tuple[int, int]) -> bool:
    """Whether the batch size is fixed to one. Raises ModelError for an input that does not fit."""

    def refuse(advice: str) -> NoReturn:
        raise ModelError(
            f"{file}: expected one input, {EXPECTED_INPUT}, got "
            f"{_described(session.get_inputs())}; {advice}"
        )

    inputs = session.get_inputs()
    if len(inputs) != 1:
        refuse("export it with the image as its only input")
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)":
        refuse("export it with float32 images, normalized outside")
    if len(shape) == 3:
        refuse("there is no batch axis: export it with a batch of images")
    if len(shape) != 4:
        refuse("export it with a batch of images")
    batch, channels, *fixed = shape
    if isinstance(channels, int) and channels != 3:
        refuse("export it for RGB images, channels first")
    if isinstance(batch, int) and batch != 1:
        refuse(f"it takes batches of {batch} only: export it with a dynamic batch axis or for 1")
    for asked, exported in zip(size, fixed, strict=True):
        if isinstance(exported, int) and exported != asked:
            height, width = fixed
            refuse(f"its image size is fixed: --input {height}x{width}, not {size[0]}x{size[1]}")
    return isinstance(batch, int)


def _choose_output(file: Path, session: InferenceSession, name: str) -> str:
    """Name of the output to use. Raises ModelError."""
    outputs = session.get_outputs()
    names = [output.name for output in outputs]
    if not names:
        raise ModelError(f"{file} has no output: export it with {EXPECTED_OUTPUT}")
    if name and name not in names:
        raise ModelError(f"{file} has no output '{name}', only {_described(outputs)}")
    if not name and len(names) > 1:
        raise ModelError(
            f"{file} has several outputs: {_described(outputs)}; choose {EXPECTED_OUTPUT} with "
            f"--output-name"
        )
    chosen = outputs[names.index(name) if name else 0]
    if not NUMBERS.fullmatch(chosen.type):
        raise ModelError(
            f"{file}: output '{chosen.name}' is {chosen.type}, expected numbers: export "
            f"{EXPECTED_OUTPUT} in float32"
        )
    return str(chosen.name)


def _described(values: Sequence[NodeArg]) -> str:
    listed = [f"{v.name} {v.type} [{', '.join(str(n) for n in v.shape)}]" for v in values]
    return ", ".join(listed) or "none"


def _test_images(size: tuple[int, int]) -> NDArray[np.float32]:
    """Two textures, [2, 3, H, W] in [−1, 1]."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)
    large = [cv2.resize(n, size[::-1], interpolation=cv2.INTER_CUBIC) for n in noise]
    return np.stack([network_input(np.asarray(image, np.uint8), size) for image in large])


def _check_output(file: Path, output: str, singles: Sequence[NDArray[np.float32]]) -> None:
    """Raises ModelError for outputs of single images that are no descriptors."""
    first, second = singles
    shape = list(first.shape)

    def refuse(advice: str) -> NoReturn:
        raise ModelError(
            f"{file}: output '{output}' has the shape {shape} for one image, expected "
            f"{EXPECTED_OUTPUT}; {advice}"
        )

    if len(shape) not in (2, 3, 4):
        refuse("there is no batch axis: keep it" if len(shape) < 2 else "export another output")
    if shape[0] != 1:
        refuse("there is no batch axis: keep it as the first axis")
    if len(shape) == 3:
        refuse("turn tokens [B, h·w, C] into a map: transpose, then reshape to [B, C, h, w]")
    if not first.size or first.shape != second.shape:
        refuse(f"a second image gave {list(second.shape)}: export it with a fixed image size")
    if not all(np.isfinite(values).all() for values in singles):
        raise ModelError(
            f"{file}: output '{output}' holds NaN or infinite numbers for an ordinary image; check "
            f"--mean and --std, and export it in float32"
        )
    if np.abs(first - second).max() <= MIN_CHANGE * np.abs(first).max():
        raise ModelError(
            f"{file}: output '{output}' is the same for two different images; export it in "
            f"evaluation mode with its trained weights, or choose another --output-name"
        )


def _takes_batches(
    file: Path,
    session: InferenceSession,
    output: str,
    images: NDArray[np.float32],
    singles: Sequence[NDArray[np.float32]],
) -> bool:
    """Whether a batch gives the descriptors of its images alone."""
    expected = np.concatenate(singles)
    try:
        batched = run(session, output, images)
    except Exception as error:
        reason = one_line(error)
        logger.warning("%s runs image by image: a batch of 2 fails with %s", file, reason)
        return False
    if batched.shape != expected.shape:
        logger.warning("%s runs image by image: a batch of 2 gives %s", file, list(batched.shape))
        return False
    change = _change(batched, expected)
    if not change <= MAX_BATCH_ERROR:
        logger.warning(
            "%s runs image by image: in a batch, descriptors change by %.1e", file, change
        )
        return False
    return True


def _change(values: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(values - expected).max() / np.abs(expected).max())
