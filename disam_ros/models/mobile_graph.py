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
RELU6 = 6.0  # its upper end

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
    graph = Graph()
    for output, weights in encoders.items():
        graph.add_encoder(output, weights)
    return graph.serialize()


class Graph:
    """Nodes and constants of an ONNX graph that grows by encoders."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._nodes: list[Any] = []
        self._outputs: list[str] = []
        self._make, self._tensor = helper.make_node, numpy_helper.from_array
        ends = {"least": 0.0, "most": RELU6}
        self._constants = [self._tensor(np.array(v, np.float32), k) for k, v in ends.items()]

    def add_encoder(self, output: str, weights: Weights) -> None:
        """Add an encoder whose features are a graph's output of that name."""
        self._weights, self._prefix = weights, f"{output}/"
        x = self._activated(STEM_LAYER, self._stored(INPUT, INPUT))
        for block in blocks():
            wide = self._activated(block.expand, x) if block.expand else x
            deep = self._activated(block.depthwise, wide)
            y = self._stored(self._convolution(block.project, deep), block.project.name)
            if block.skips:
                y = self._stored(self._node("Add", [x, y], f"{block.name}.sum"), block.name)
            x = y
        self._nodes.append(self._make("Identity", [x], [output]))
        self._outputs.append(output)

    def serialize(self) -> bytes:
        """Bytes of the ONNX file."""
        from onnx import TensorProto, helper

        image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["B", 3, "H", "W"])
        shape: list[str | int | None] = ["B", CHANNELS, f"H/{STRIDE}", f"W/{STRIDE}"]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in self._outputs
        ]
        made = helper.make_graph(self._nodes, "mobile", [image], outputs, self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
        found: bytes = model.SerializeToString()
        return found

    def _activated(self, layer: Convolution, x: str) -> str:
        return self._relu6(self._convolution(layer, x), layer.name)

    def _convolution(self, layer: Convolution, x: str) -> str:
        before, after = layer.margins
        return self._node(
            "Conv",
            [x, *self._weights_of(layer, x)],
            layer.name,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[before, before, after, after],
            group=layer.channels if layer.depthwise else 1,
        )

    def _weights_of(self, layer: Convolution, x: str) -> list[str]:
        """Names of weight and bias of a convolution of the activation x."""
        return [
            self._constant(name, np.asarray(self._weights[name], np.float32))
            for name in layer.shapes
        ]

    def _relu6(self, x: str, name: str) -> str:
        return self._node("Clip", [x, "least", "most"], f"{name}.relu6")

    def _stored(self, x: str, name: str) -> str:
        """An activation without ReLU6 as later layers read it. name: of the layer, or the input."""
        return x

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._constants.append(self._tensor(array, self._prefix + name))
        return self._prefix + name

    def _node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = self._prefix + name
        self._nodes.append(self._make(kind, inputs, [output], name=output, **attributes))
        return output
