# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: sessions, and models of one node.

The latter are all that products of rows need of the package onnx. A message of Protobuf is a
sequence of fields: a key, the field's number times eight plus its wire type, then a whole number
(type 0) or a length and so many bytes (type 2). Numbers of the fields are those of onnx.proto.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU, threads
from disam_ros.errors import ConfigError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

ON_CPU, ON_CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OPSET, IR_VERSION = 18, 9  # what onnxruntime 1.18 reads
# Element types of ONNX.
TYPES = {np.dtype(t): n for t, n in ((np.float32, 1), (np.uint8, 2), (np.int8, 3), (np.int32, 6))}

Value = int | str | bytes


def has_runtime() -> bool:
    """Returns whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


def require_runtime() -> None:
    """Raises ConfigError where ONNX Runtime is not installed."""
    if not has_runtime():
        raise ConfigError(
            "backend 'onnx' needs the package onnxruntime: pip install onnxruntime, or set "
            "backend to 'torch'"
        )


def create_session(model: Path | bytes, device: str) -> InferenceSession:
    """A session with as many threads as torch; on CUDA where the device is and onnxruntime can.

    model: a file, or its contents. Raises ImportError without onnxruntime; its errors for a model
    have no root of their own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    # Spinning threads take the cores from other nodes and make inference no faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they are raised, too
    providers: list[Any] = [ON_CPU]
    if device != CPU and ON_CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (ON_CUDA, {"device_id": int(device.partition(":")[2] or 0)}))
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if device != CPU and session.get_providers()[0] != ON_CUDA:
        logger.warning(
            "%s runs on the CPU, not on %s: this onnxruntime has no working %s; install "
            "onnxruntime-gpu instead of onnxruntime",
            model.name if isinstance(model, Path) else "the encoder",
            device,
            ON_CUDA,
        )
    return session


def node_model(
    operator: str,
    inputs: Mapping[str, type[np.generic]],
    output: tuple[str, type[np.generic]],
    constants: Mapping[str, NDArray[np.generic]],
    flags: Sequence[str] = (),
) -> bytes:
    """Returns a model whose node takes the inputs, matrices of any size, and then the constants.

    flags: attributes of the node that are 1.
    """
    attributes = [_message((1, flag), (3, 1), (20, 2)) for flag in flags]  # 2: a whole number
    node = _message(
        *((1, name) for name in (*inputs, *constants)),
        (2, output[0]),
        (4, operator),
        *((5, attribute) for attribute in attributes),
    )
    graph = _message(
        (1, node),
        (2, operator),
        *((5, _tensor(name, array)) for name, array in constants.items()),
        *((11, _matrix(name, kind)) for name, kind in inputs.items()),
        (12, _matrix(*output)),
    )
    return _message((1, IR_VERSION), (7, graph), (8, _message((1, ""), (2, OPSET))))


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    kind = TYPES[array.dtype]
    return _message(
        *((1, size) for size in array.shape), (2, kind), (8, name), (9, array.tobytes())
    )


def _matrix(name: str, kind: type[np.generic]) -> bytes:
    """Declares a matrix, whose axes have names in place of sizes."""
    axes = [_message((2, f"{name} {axis}")) for axis in ("rows", "columns")]
    shape = _message(*((1, axis) for axis in axes))
    tensor = _message((1, TYPES[np.dtype(kind)]), (2, shape))
    return _message((1, name), (2, _message((1, tensor))))


def _message(*fields: tuple[int, Value]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Writes a whole number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
