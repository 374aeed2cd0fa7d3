# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: sessions, and products of descriptors in it.

Products take less time for few rows than those of numpy, whose library computes in one thread here
(device.py). Where ONNX Runtime is not installed numpy computes them. Their models have one node,
and are written here: that is all they need of the package onnx. A message of Protobuf is a sequence
of fields: a key, the field's number times eight plus its wire type, then a whole number (type 0) or
a length and so many bytes (type 2). Numbers of the fields are those of onnx.proto.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
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
BASE = 128
ZERO = BASE // 2  # the digit 0 is stored so
LARGEST = 64 * 127  # of a row's whole numbers: its digits lie in −64…64
A, B, PRODUCTS = "a", "b", "products"  # names in the graphs


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


def row_products(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Inner products of all rows: a [n, D], b [m, D] → a · bᵀ [n, m], in their precision."""
    session = _session_of_floats() if a.dtype == b.dtype == np.float32 else None
    if session is None:
        return a @ b.T
    return np.asarray(session.run([PRODUCTS], {A: a, B: b})[0])


def code_products(
    codes: NDArray[np.int8], scales: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Returns the function rows float32 [n, D] → rows · matrixᵀ float32 [n, d] of IntegerProduct.

    Where ONNX Runtime is not installed numpy computes it, with the matrix in float32.
    """
    if has_runtime():
        return IntegerProduct(codes, scales)
    matrix = codes.astype(np.float32) * scales[:, None]
    return lambda rows: rows @ matrix.T


class IntegerProduct:
    """rows float32 [n, D] → rows · matrixᵀ float32 [n, d], computed in integers.

    matrix: codes int8 [d, D], −127…127, times a scale per row, float32 [d]. Numbers of a row are
    rounded to 14 bits of its largest and written as two digits to the base 128 (Ozaki et al.,
    Numerical Algorithms 2012, split products likewise). So each factor has 8 bits, of which those
    of the descriptors use values up to 128: a CPU without VNNI adds two products in 16 bits, which
    these never exceed (ONNX Runtime, Quantize ONNX models). All CPUs compute the same. An error is
    at most max |row| / (2 · LARGEST) · Σ |matrix| and float32's. Raises ImportError
    without ONNX Runtime.
    """

    def __init__(self, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        self._scales = scales
        self._session = _session_of_integers(codes)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        steps = (np.abs(rows).max(1, keepdims=True) / LARGEST).clip(np.finfo(np.float32).tiny)
        whole = np.rint(rows / steps)
        high = np.rint(whole / BASE)
        digits = np.concatenate([high, whole - BASE * high]) + ZERO
        outputs = self._session.run([PRODUCTS], {A: digits.astype(np.uint8)})[0]
        high, low = np.asarray(outputs, np.float32).reshape(2, len(rows), -1)
        products: NDArray[np.float32] = (BASE * high + low) * steps * self._scales
        return products


@cache
def _session_of_floats() -> InferenceSession | None:
    """None where ONNX Runtime is not installed."""
    if not has_runtime():
        return None
    inputs = {A: np.float32, B: np.float32}
    model = node_model("Gemm", inputs, (PRODUCTS, np.float32), {}, flags=["transB"])
    return create_session(model, CPU)


os.register_at_fork(after_in_child=_session_of_floats.cache_clear)  # its threads are not there


def _session_of_integers(codes: NDArray[np.int8]) -> InferenceSession:
    constants = {B: np.ascontiguousarray(codes.T), "zero": np.array(ZERO, np.uint8)}
    model = node_model("MatMulInteger", {A: np.uint8}, (PRODUCTS, np.int32), constants)
    return create_session(model, CPU)
