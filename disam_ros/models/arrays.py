# SPDX-License-Identifier: Apache-2.0
"""Arrays of images and features: of numpy on a CPU, of torch on a device and in training.

The same functions take both; torch is imported for tensors only. Features are checked: damaged
weights give NaN, zeros or the same in every cell. Products of few rows take less time in ONNX
Runtime than in numpy, whose library computes in one thread here (device.py). Where ONNX Runtime is
not installed numpy computes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.errors import BlindError, ModelError
from disam_ros.models.onnx_runtime import create_session, has_runtime, node_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import Tensor

SAMPLES = 3  # images to compare two runtimes or precisions with
SEED = 0
BASE = 128
ZERO = BASE // 2  # the digit 0 is stored so
LARGEST = 64 * 127  # of a row's whole numbers: its digits lie in −64…64
CODE_ZERO = 128  # the code 0 of a map image is kept so in memory
LONGEST = 2**31 // (255 * ZERO)  # numbers of a row whose products with digits fit into 32 bits
A, B, PRODUCTS = "a", "b", "products"  # names in the graphs

Array = TypeVar("Array", NDArray[np.float32], "Tensor")  # of numpy or of torch


def like(array: NDArray[np.float32], other: Array) -> Array:
    """The array as one of the kind, the precision and on the device of another."""
    if isinstance(other, np.ndarray):
        return array.astype(other.dtype, copy=False)
    import torch

    return torch.from_numpy(array).to(other)


def on_device(array: NDArray[np.float32], device: str) -> Any:
    """The array itself for a CPU, else a tensor on the device."""
    if device == CPU:
        return array
    import torch

    return torch.from_numpy(array).to(device)


def concatenate(arrays: Sequence[Array]) -> Array:
    """Arrays of one kind along their first axis; one alone as it is."""
    if len(arrays) == 1:
        return arrays[0]
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays)
    import torch

    return torch.cat(list(arrays))


def as_numpy(array: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
    """The array itself, or a tensor's numbers in the memory of the CPU."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def require_features(z: Array, images: Array, source: str) -> Array:
    """The features z [B, C, h, w] of images [B, 3, H, W], which are finite and vary.

    They vary over the cells of a channel, or over the channels where there is one cell. source: the
    encoder's file, for the error. Raises ModelError, or BlindError for images of one colour.
    """
    count, channels, *cells = z.shape
    values = z.reshape(count, channels, -1) if cells != [1, 1] else z.reshape(count, 1, -1)
    spread = _spread(values)  # [B, C] or [B, 1]
    finite = np.isfinite(spread).all(1)
    sound = finite & (spread.max(1) > 0.0)
    if sound.all():
        return z
    if not _spread(images.reshape(count, -1))[~sound].any():
        raise BlindError("the image is of one colour: there is nothing to recognize a place by")
    fault = "have no variance" if finite.all() else "are not finite"
    raise ModelError(
        f"{source} gives features that {fault}: its weights are damaged or do not suit this "
        f"device; take a sound copy of the model"
    )


def is_of_one_colour(image: NDArray[np.float32]) -> bool:
    """Whether a network input [3, H, W] shows nothing at all."""
    return bool(image.min() == image.max())


def sample_images(size: tuple[int, int]) -> NDArray[np.float32]:
    """Images [SAMPLES, 3, H, W] in [−1, 1] with the statistics of real ones, without any file.

    Noise whose amplitude falls with frequency as that of natural images (Field, JOSA A 1987): by
    day, by night with lights, and in black and white.
    """
    rng = np.random.default_rng(SEED)
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    spectrum = np.fft.rfft2(rng.standard_normal((SAMPLES, 3, *size))) / (frequency + 1 / max(size))
    images = np.fft.irfft2(spectrum, size)
    images /= np.abs(images).max((1, 2, 3), keepdims=True)
    images[1] = np.where(images[1] > 0.5, 1.0, 0.1 * images[1] - 0.9)
    images[2] = np.sign(images[2])
    return np.asarray(images, np.float32)


def _spread(values: Array) -> NDArray[np.float32]:
    """Largest less smallest number along the last axis, on the CPU; nan if any is nan."""
    if isinstance(values, np.ndarray):
        with np.errstate(invalid="ignore"):  # inf less inf
            return np.asarray(values.max(-1) - values.min(-1))
    return as_numpy(values.amax(-1) - values.amin(-1))


def row_products(a: Any, b: Any) -> Any:
    """Inner products of all rows: a [n, D], b [m, D] → a · bᵀ [n, m], in their precision.

    a: rows, or `biased` codes. b: rows, or with codes their Digits.
    """
    if isinstance(b, Digits):
        return b.products(a)
    a = unbiased(a) if are_biased(a) else a
    floats = isinstance(a, np.ndarray) and a.dtype == b.dtype == np.float32
    session = _session_of_floats() if floats else None
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


def digits_of(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Numbers [n, D] as two digits to the base BASE, the higher one first, [2, n, D], −64…64, and
    their units [n, 1]: rounded to 14 bits of the row's largest."""
    steps = (np.abs(rows).max(1, keepdims=True) / LARGEST).clip(np.finfo(np.float32).tiny)
    whole = np.rint(rows / steps)
    high = np.rint(whole / BASE)
    return np.stack([high, whole - BASE * high]), steps


def biased(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes plus CODE_ZERO: those of map images as products in integers take them."""
    return codes.view(np.uint8) ^ np.uint8(CODE_ZERO)


def are_biased(z: Any) -> bool:
    """Whether features are `biased` codes."""
    return isinstance(z, np.ndarray) and z.dtype == np.uint8


def unbiased(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The codes that were `biased`, as numbers."""
    return codes.astype(np.float32) - np.float32(CODE_ZERO)


class Digits:
    """Rows [n, D] as digits, whose products with `biased` codes are computed in integers.

    values: int8 [D, n, 2], −64…64, of `digits_of`; unit: of the numbers. All factors have 8 bits,
    and two products 16, as in IntegerProduct.
    """

    def __init__(self, values: NDArray[np.int8], unit: float) -> None:
        self._values, self._unit = values.reshape(len(values), -1), np.float32(unit)

    def products(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Inner products of `biased` codes [m, D] with the rows, [m, n]. Raises ImportError without
        ONNX Runtime."""
        sums = np.zeros((len(codes), self._values.shape[1]), np.int64)
        for at in range(0, len(self._values), LONGEST):
            part = np.ascontiguousarray(codes[:, at : at + LONGEST])
            inputs = {A: part, B: self._values[at : at + LONGEST]}
            sums += np.asarray(_session_of_digits().run([PRODUCTS], inputs)[0])
        high, low = np.moveaxis(sums.reshape(len(codes), -1, 2), -1, 0).astype(np.float32)
        products: NDArray[np.float32] = (BASE * high + low) * self._unit
        return products


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
        digits, steps = digits_of(rows)
        stored = (digits.reshape(-1, rows.shape[1]) + ZERO).astype(np.uint8)
        outputs = self._session.run([PRODUCTS], {A: stored})[0]
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


@cache
def _session_of_digits() -> InferenceSession:
    constants = {"zero": np.array(CODE_ZERO, np.uint8)}
    inputs = {A: np.uint8, B: np.int8}
    model = node_model("MatMulInteger", inputs, (PRODUCTS, np.int32), constants)
    return create_session(model, CPU)


for _session in (_session_of_floats, _session_of_digits):
    os.register_at_fork(after_in_child=_session.cache_clear)  # its threads are not there


def _session_of_integers(codes: NDArray[np.int8]) -> InferenceSession:
    constants = {B: np.ascontiguousarray(codes.T), "zero": np.array(ZERO, np.uint8)}
    model = node_model("MatMulInteger", {A: np.uint8}, (PRODUCTS, np.int32), constants)
    return create_session(model, CPU)
