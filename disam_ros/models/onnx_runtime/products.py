# SPDX-License-Identifier: Apache-2.0
"""Products of descriptors by ONNX Runtime, which takes less time for few rows than numpy.

Numpy's library computes in one thread here (device.py). Where ONNX Runtime is not installed numpy
computes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.models.onnx_runtime.graph import node_model
from disam_ros.models.onnx_runtime.session import create_session, has_runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

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
