# SPDX-License-Identifier: Apache-2.0
"""Static 8-bit quantization of the mobile encoder, as an ONNX graph; imports no torch.

Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference (CVPR 2018): activations uint8 with the step and zero point of a range that was measured
before, weights signed with a step per output channel, bias and sums int32. Clipping at the ends of
the range, 0 and at most 6, is ReLU6. The stem and the first block stay in floating point: they make
most of the error and take as long in integers. So do the features, the last sum.

Weights have 7 bits: a CPU without VNNI adds two products in 16 bits, which two of 8 × 8 bits exceed
(ONNX Runtime, Quantize ONNX models, `reduce_range`) and two of 8 × 7 bits do not. So all CPUs
compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.models.mobile_graph import (
    RELU6,
    Convolution,
    Graph,
    Weights,
    blocks,
)

LEVELS = 255  # steps between the ends of an activation's range
LARGEST_WEIGHT = 63
LARGEST_BIAS = 2**30  # of int32, to leave room for the sum
SMALLEST_RANGE = 1e-6  # of a layer that is always 0

Ranges = Mapping[str, NDArray[np.float32]]  # least and most, [2], by name of the layer


def range_names() -> list[str]:
    """Layers whose outputs are quantized: convolutions, before ReLU6, and blocks with a sum."""
    names = []
    for k, block in enumerate(blocks()):
        layers = block.convolutions if k else [block.project]
        names += [layer.name for layer in layers]
        names += [block.name] if block.skips else []
    return names[:-1]  # the features are not


def to_int8_onnx(encoders: Mapping[str, tuple[Weights, Ranges]]) -> bytes:
    """As `mobile_graph.to_onnx` in 8-bit integers, of weights and ranges by name of the output."""
    graph = _Int8Graph()
    for output, (weights, ranges) in encoders.items():
        graph.add_quantized(output, weights, ranges)
    return graph.serialize()


def rounded(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers near to weights [O, I, k, k] with the same sum per filter, to ½.

    The errors of rounding to the nearest add up where all inputs are positive: they shift the
    filter's output. As many weights as it takes, those nearest to ½, are rounded the other way.
    """
    rows = weights.reshape(len(weights), -1)
    nearest = np.rint(rows)
    missing = rows - nearest
    count = np.rint(missing.sum(1, keepdims=True))
    sign = np.sign(count)
    rank = np.argsort(np.argsort(-sign * missing, axis=1, kind="stable"), axis=1)
    found: NDArray[np.float64] = nearest + sign * (rank < np.abs(count))
    return found.clip(-LARGEST_WEIGHT, LARGEST_WEIGHT).reshape(weights.shape)


class _Int8Graph(Graph):
    """Activations and weights pass through QuantizeLinear and DequantizeLinear, which ONNX Runtime
    fuses with the convolution between them into one of integers."""

    def add_quantized(self, output: str, weights: Weights, ranges: Ranges) -> None:
        self._ranges = ranges
        self._steps: dict[str, np.float32] = {}  # of quantized activations
        self._positive: set[str] = set()  # those after ReLU6
        self.add_encoder(output, weights)

    def _relu6(self, x: str, name: str) -> str:
        if name not in self._ranges:
            return super()._relu6(x, name)
        found = self._quantized(x, name, self._ranges[name].clip(0.0, RELU6))
        self._positive.add(found)
        return found

    def _stored(self, x: str, name: str) -> str:
        return self._quantized(x, name, self._ranges[name]) if name in self._ranges else x

    def _quantized(self, x: str, name: str, ends: NDArray[np.float32]) -> str:
        least, most = min(float(ends[0]), 0.0), max(float(ends[1]), 0.0)
        step = np.float32(max(most - least, SMALLEST_RANGE) / LEVELS)
        zero = np.uint8(np.clip(np.rint(-least / step), 0, LEVELS))
        scale = [
            self._constant(f"{name}.step", np.array(step)),
            self._constant(f"{name}.zero", np.array(zero)),
        ]
        codes = self._node("QuantizeLinear", [x, *scale], f"{name}.codes")
        found = self._node("DequantizeLinear", [codes, *scale], f"{name}.quantized")
        self._steps[found] = step
        return found

    def _weights_of(self, layer: Convolution, x: str) -> list[str]:
        if x not in self._steps:
            return super()._weights_of(layer, x)
        weight, bias = (np.asarray(self._weights[name], np.float64) for name in layer.shapes)
        largest = np.abs(weight).max((1, 2, 3))
        step = np.float64(self._steps[x])
        steps = np.maximum(largest / LARGEST_WEIGHT, np.abs(bias) / (step * LARGEST_BIAS))
        steps = steps.clip(np.finfo(np.float32).tiny / step).astype(np.float32).astype(np.float64)
        units = weight / steps[:, None, None, None]
        codes = rounded(units) if x in self._positive else np.rint(units)
        sums = np.rint(bias / (step * steps)).astype(np.int32)
        names = list(layer.shapes)
        return [
            self._codes(names[0], codes.astype(np.int8), steps),
            self._codes(names[1], sums, step * steps),
        ]

    def _codes(self, name: str, codes: NDArray[Any], steps: NDArray[np.float64]) -> str:
        """Quantized weights with a step per row."""
        inputs = [
            self._constant(f"{name}.codes", codes),
            self._constant(f"{name}.steps", steps.astype(np.float32)),
            self._constant(f"{name}.zeros", np.zeros(len(steps), codes.dtype)),
        ]
        return self._node("DequantizeLinear", inputs, name, axis=0)
