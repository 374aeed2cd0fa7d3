# SPDX-License-Identifier: Apache-2.0
"""Small ONNX networks, imported."""

import torch

from disam_ros.models.import_model import import_model
from disam_ros.models.model import Model
from support.onnx_files import DESCRIPTOR, IMAGES, write_onnx

SIZE = (48, 64)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
MAP = "float[N, C, h, w] z"


def imported_model(folder, body=DESCRIPTOR, inputs=IMAGES, outputs="float[N, D] z", **options):
    """A small network, imported into folder/model."""
    file = write_onnx(folder / "network.onnx", body, inputs, outputs)
    return run_import(file, folder / "model", **options)


def run_import(file, output, **options) -> Model:
    settings = {"image_size": SIZE, "mean": MEAN, "std": STD, "licence": "MIT"}
    return import_model(file, output, "small", **{**settings, **options})


def images(count=2, size=SIZE):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def command(file, output, *more):
    fixed = ["--name", "small", "--input", "48x64"]
    scale = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
    return ["import-model", str(file), *fixed, *scale, "--output", str(output), *more]
