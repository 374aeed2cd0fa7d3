# SPDX-License-Identifier: Apache-2.0
"""Small ONNX networks in ONNX's text syntax, for images of 48×64 pixels."""

from __future__ import annotations

from pathlib import Path

IMAGES = "float[N, 3, 48, 64] image"
DESCRIPTOR = """
    cells = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (image)
    z = Flatten (cells)
"""  # 3 × 6 × 8 = 144 numbers
FEATURE_MAP = "z = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (image)"  # 3 × 12 × 16


def write_onnx(
    path: Path, body: str = DESCRIPTOR, inputs: str = IMAGES, outputs: str = "float[N, D] z"
) -> Path:
    """An ONNX file of a graph."""
    import onnx

    text = f'<ir_version: 9, opset_import: ["" : 18]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    onnx.save_model(onnx.parser.parse_model(text), str(path))
    return path
