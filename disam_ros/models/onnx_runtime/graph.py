# SPDX-License-Identifier: Apache-2.0
"""ONNX models of one node, as bytes: all that products of descriptors need of the package onnx.

A message of Protobuf is a sequence of fields: a key, the field's number times eight plus its wire
type, then a whole number (type 0) or a length and so many bytes (type 2). Numbers of the fields are
those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

OPSET, IR_VERSION = 18, 9  # what onnxruntime 1.18 reads
# Element types of ONNX.
TYPES = {np.dtype(t): n for t, n in ((np.float32, 1), (np.uint8, 2), (np.int8, 3), (np.int32, 6))}

Value = int | str | bytes
Fields = Sequence[tuple[int, Value]]  # number and value of each field


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
