# SPDX-License-Identifier: Apache-2.0
"""Products of descriptors by ONNX Runtime, which takes less time for few rows than numpy.

Numpy's library computes in one thread here (device.py). Where ONNX Runtime is not installed numpy
computes them.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.models.onnx_runtime.session import create_session, has_runtime

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto
    from onnxruntime import InferenceSession

OPSET, IR_VERSION = 18, 9  # what onnxruntime 1.18 reads
BASE = 128
ZERO = BASE // 2  # the digit 0 is stored so
LARGEST = 64 * 127  # of a row's whole numbers: its digits lie in −64…64
A, B, PRODUCTS = "a", "b", "products"  # names in the graphs


def row_products(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Inner products of all rows: a [n, D], b [m, D] → a · bᵀ [n, m], in their precision."""
    session = _session_of_floats() if a.dtype == b.dtype == np.float32 else None
    if session is None:
        return a @ b.T
    return np.asarray(session.run([PRODUCTS], {A: a, B: b})[0])


class IntegerProduct:
    """rows float32 [n, D] → rows · matrixᵀ float32 [n, d], computed in integers.

    matrix: codes int8 [d, D], −127…127, times a scale per row, float32 [d]. Numbers of a row are
    rounded to 14 bits of its largest and written as two digits to the base 128 (Ozaki et al.,
    Numerical Algorithms 2012, split products likewise). So each factor has 8 bits, of which those
    of the descriptors use values up to 128: a CPU without VNNI adds two products in 16 bits, which
    these never exceed (ONNX Runtime, Quantize ONNX models). All CPUs compute the same. An error is
    at most max |row| / (2 · LARGEST) · Σ |matrix| and float32's. Raises ImportError without the
    packages.
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
    from onnx import TensorProto, helper

    node = helper.make_node("Gemm", [A, B], [PRODUCTS], transB=1)
    return _session(node, {A: TensorProto.FLOAT, B: TensorProto.FLOAT}, TensorProto.FLOAT, [])


os.register_at_fork(after_in_child=_session_of_floats.cache_clear)  # its threads are not there


def _session_of_integers(codes: NDArray[np.int8]) -> InferenceSession:
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.ascontiguousarray(codes.T), B),
        numpy_helper.from_array(np.array(ZERO, np.uint8), "zero"),
    ]
    node = helper.make_node("MatMulInteger", [A, B, "zero"], [PRODUCTS])
    return _session(node, {A: TensorProto.UINT8}, TensorProto.INT32, constants)


def _session(
    node: NodeProto, inputs: dict[str, int], output: int, constants: list[TensorProto]
) -> InferenceSession:
    """A session of one node with matrices of any size. inputs, output: kinds of their numbers."""
    from onnx import helper

    values = [
        helper.make_tensor_value_info(name, kind, [f"{name} rows", f"{name} columns"])
        for name, kind in inputs.items()
    ]
    made = helper.make_tensor_value_info(PRODUCTS, output, ["rows", "columns"])
    graph = helper.make_graph([node], PRODUCTS, values, [made], constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    return create_session(model.SerializeToString(), CPU)
