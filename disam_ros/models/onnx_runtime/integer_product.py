# SPDX-License-Identifier: Apache-2.0
"""Products of descriptors with a matrix of int8, computed in integers by ONNX Runtime.

Numbers of a row are rounded to 14 bits of its largest and written as two digits to the base 128
(Ozaki et al., Numerical Algorithms 2012, split products likewise). So each factor has 8 bits, of
which those of the descriptors use values up to 128: a CPU without VNNI adds two products in 16
bits, which these never exceed (ONNX Runtime, Quantize ONNX models). All CPUs compute the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.models.onnx_runtime.session import create_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OPSET, IR_VERSION = 18, 9  # what onnxruntime 1.18 reads
BASE = 128
ZERO = BASE // 2  # the digit 0 is stored so
LARGEST = 64 * 127  # of a row's whole numbers: its digits lie in −64…64
DIGITS, PRODUCTS = "digits", "products"


class IntegerProduct:
    """rows float32 [n, D] → rows · matrixᵀ float32 [n, d].

    matrix: codes int8 [d, D], −127…127, times a scale per row, float32 [d]. An error is at most
    max |row| / (2 · LARGEST) · Σ |matrix| and float32's. Raises ImportError without the packages.
    """

    def __init__(self, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        self._scales = scales
        self._session = _session(codes)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        steps = (np.abs(rows).max(1, keepdims=True) / LARGEST).clip(np.finfo(np.float32).tiny)
        whole = np.rint(rows / steps)
        high = np.rint(whole / BASE)
        digits = np.concatenate([high, whole - BASE * high]) + ZERO
        found = self._session.run([PRODUCTS], {DIGITS: digits.astype(np.uint8)})[0]
        high, low = np.asarray(found, np.float32).reshape(2, len(rows), -1)
        products: NDArray[np.float32] = (BASE * high + low) * steps * self._scales
        return products


def _session(codes: NDArray[np.int8]) -> InferenceSession:
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.ascontiguousarray(codes.T), "matrix"),
        numpy_helper.from_array(np.array(ZERO, np.uint8), "zero"),
    ]
    product = helper.make_node("MatMulInteger", [DIGITS, "matrix", "zero"], [PRODUCTS])
    ends = [
        helper.make_tensor_value_info(name, kind, ["n", size])
        for name, kind, size in (
            (DIGITS, TensorProto.UINT8, codes.shape[1]),
            (PRODUCTS, TensorProto.INT32, codes.shape[0]),
        )
    ]
    graph = helper.make_graph([product], "product", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    return create_session(model.SerializeToString(), CPU)
