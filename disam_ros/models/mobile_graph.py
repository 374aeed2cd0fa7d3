# SPDX-License-Identifier: Apache-2.0
"""Layers of the mobile encoder, and the encoder as an ONNX graph; imports no torch.

mobile.py has the same layers as a torch module, for training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import ModelError

CHANNELS = 112  # of the features
STRIDE = 16
STEM = 32
STAGES = (  # expansion, channels, blocks, kernel, stride of the first block
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
)
OPSET, IR_VERSION = 18, 9  # what onnxruntime 1.18 reads
INPUT = "image"

Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Convolution:
    """A convolution with bias and TensorFlow's 'same' zero padding."""

    name: str
    channels: int
    out: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def margins(self) -> tuple[int, int]:
        """Zeros before and after each row and column; at stride 2 one fewer before than after."""
        return (self.kernel - self.stride) // 2, (self.kernel - 1) // 2

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the weights, by name."""
        inputs = 1 if self.depthwise else self.channels
        weight = (self.out, inputs, self.kernel, self.kernel)
        return {f"{self.name}.weight": weight, f"{self.name}.bias": (self.out,)}


@dataclass(frozen=True)
class Block:
    """Inverted residual: 1×1 expansion, depthwise k×k, 1×1 projection."""

    name: str
    expand: Convolution | None
    depthwise: Convolution
    project: Convolution

    @property
    def skips(self) -> bool:
        """Whether the input is added to the output, which has its shape."""
        first = self.expand or self.depthwise
        return self.depthwise.stride == 1 and first.channels == self.project.out

    @property
    def convolutions(self) -> list[Convolution]:
        """In their order."""
        return [layer for layer in (self.expand, self.depthwise, self.project) if layer]


STEM_LAYER = Convolution("stem", 3, STEM, 3, stride=2)


def blocks() -> Iterator[Block]:
    """The blocks after the stem."""
    channels, number = STEM, 0
    for expansion, out, count, kernel, stride in STAGES:
        for k in range(count):
            name, wide = f"blocks.{number}", expansion * channels
            expand = Convolution(f"{name}.expand", channels, wide, 1) if expansion > 1 else None
            step = 1 if k else stride
            depthwise = Convolution(f"{name}.depthwise", wide, wide, kernel, step, True)
            yield Block(name, expand, depthwise, Convolution(f"{name}.project", wide, out, 1))
            channels, number = out, number + 1


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of an encoder's weights by name."""
    layers = [STEM_LAYER, *(layer for block in blocks() for layer in block.convolutions)]
    return {name: shape for layer in layers for name, shape in layer.shapes.items()}


def weight_count() -> int:
    """Numbers in an encoder's weights."""
    return sum(prod(shape) for shape in weight_shapes().values())


def require_weights(weights: Weights, what: str) -> None:
    """Raise ModelError, naming `what`, where weights are not those of a mobile encoder."""
    expected = weight_shapes()
    found = {name: array.shape for name, array in weights.items()}
    if found != expected:
        wrong = min(found.items() ^ expected.items())[0]
        raise ModelError(
            f"{what}: weights do not fit the network: '{wrong}' has shape "
            f"{list(found.get(wrong, ())) or 'none'}, expected "
            f"{list(expected.get(wrong, ())) or 'none'}"
        )


def to_onnx(encoders: Mapping[str, Weights]) -> bytes:
    """An ONNX graph: `image` float32 [B, 3, H, W] in [−1, 1] → features [B, 112, H/16, W/16].

    encoders: weights by the name of the output; several encoders make one graph with several
    outputs. Raises ImportError without the package onnx.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    for output, weights in encoders.items():
        graph.add_encoder(output, weights)
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["B", 3, "H", "W"])
    shape: list[str | int | None] = ["B", CHANNELS, f"H/{STRIDE}", f"W/{STRIDE}"]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in encoders]
    made = helper.make_graph(graph.nodes, "mobile", [image], outputs, graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    found: bytes = model.SerializeToString()
    return found


class _Graph:
    """Nodes and constants of an ONNX graph that grows."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self.nodes: list[Any] = []
        self._make, self._constant = helper.make_node, numpy_helper.from_array
        ends = {"least": 0.0, "most": 6.0}  # of ReLU6
        self.constants = [self._constant(np.array(v, np.float32), k) for k, v in ends.items()]

    def add_encoder(self, output: str, weights: Weights) -> None:
        self._weights, self._prefix = weights, f"{output}/"
        x = self._relu6(self._convolution(STEM_LAYER, INPUT))
        for block in blocks():
            wide = x if block.expand is None else self._relu6(self._convolution(block.expand, x))
            deep = self._relu6(self._convolution(block.depthwise, wide))
            y = self._convolution(block.project, deep)
            x = self._node("Add", [x, y], f"{block.name}.sum") if block.skips else y
        self.nodes.append(self._make("Identity", [x], [output]))

    def _convolution(self, layer: Convolution, x: str) -> str:
        names = list(layer.shapes)
        self.constants += [
            self._constant(np.asarray(self._weights[name], np.float32), self._prefix + name)
            for name in names
        ]
        before, after = layer.margins
        return self._node(
            "Conv",
            [x, *(self._prefix + name for name in names)],
            layer.name,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[before, before, after, after],
            group=layer.channels if layer.depthwise else 1,
        )

    def _relu6(self, x: str) -> str:
        return self._node("Clip", [x, "least", "most"], f"{x.removeprefix(self._prefix)}.relu6")

    def _node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = self._prefix + name
        self.nodes.append(self._make(kind, inputs, [output], name=output, **attributes))
        return output
