# SPDX-License-Identifier: Apache-2.0
"""Pretrained backbone weights: from torchvision, EfficientNet-Lite0 or a model directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from disam_ros.errors import ModelError
from disam_ros.files.reading import parsing, require_regular
from disam_ros.models import mobile
from disam_ros.models.global_descriptors.backbones import build_backbone
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.state_files import read_state

BATCH_NORM_EPSILON = 1e-5  # of torchvision's ResNet18


def read_backbone_weights(
    path: Path | str, config: GlobalConfig, branch: str = ""
) -> dict[str, Tensor]:
    """Read a weight file → state dictionary of `GlobalNetwork.backbone`.

    vgg16, resnet18, alexnet: a state dictionary of torchvision's model of that name, as .pth or
    .safetensors; later layers are ignored. mobile: a file for mobile.read_backbone, or
    coarse.safetensors or fine.safetensors of a model directory with that encoder. disam: such a
    file of a directory with that encoder. branch: the domain to read from a model directory's file
    of several. Raises ModelError for a file that cannot be read or is of another architecture.
    """
    path = Path(path)
    with parsing(path, ModelError):
        weights = _read(path, config.backbone)
    if config.backbone in ("mobile", "disam") and path.suffix == ".safetensors":
        weights = _of_one_domain(weights, path, branch)
    elif config.backbone == "resnet18":
        weights = _fold(weights, path)
    expected = build_backbone(config).state_dict()
    wrong = [
        name
        for name, value in expected.items()
        if name not in weights or weights[name].shape != value.shape
    ]
    if wrong:
        raise ModelError(
            f"backbone {path} is not of {config.backbone}: {len(wrong)} of {len(expected)} weights "
            f"are missing or of another shape, the first is {wrong[0]}; docs/training.md says "
            f"where to get one"
        )
    return {name: weights[name].float() for name in expected}


def _read(path: Path, backbone: str) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            require_regular(path, ModelError)
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"backbone {path} cannot be read: {error}") from error
    if backbone == "mobile":
        return mobile.read_backbone(path)
    if backbone == "disam":
        raise ModelError(
            f"backbone {path}: expected coarse.safetensors or fine.safetensors of a model directory"
        )
    return read_state(path, "; docs/training.md says where to get a backbone")


def _of_one_domain(weights: Mapping[str, Tensor], path: Path, branch: str) -> dict[str, Tensor]:
    domains = sorted({name.split("/")[0] for name in weights if "/" in name})
    if branch not in domains and len(domains) != 1:
        raise ModelError(
            f"backbone {path}: expected a branch named as one of its domains "
            f"({', '.join(domains) or 'it has none'}), got '{branch}'"
        )
    prefix = f"{branch if branch in domains else domains[0]}/"
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _fold(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Fold the batch normalization of ResNet18 into its convolutions."""
    state: dict[str, Tensor] = {}
    names = [key.removesuffix(".running_mean") for key in weights if key.endswith(".running_mean")]
    for norm in names:  # bn1 follows conv1, downsample.1 follows downsample.0
        convolution = norm.replace("bn", "conv").replace("downsample.1", "downsample.0")
        try:
            mean, variance, scale, shift, kernel = (
                weights[key].double()
                for key in (
                    *(f"{norm}.{part}" for part in ("running_mean", "running_var")),
                    *(f"{norm}.{part}" for part in ("weight", "bias")),
                    f"{convolution}.weight",
                )
            )
        except KeyError as error:
            raise ModelError(f"backbone {path} is not of resnet18: {error} is missing") from error
        scale = scale / torch.sqrt(variance + BATCH_NORM_EPSILON)
        target = convolution.replace("downsample.0", "downsample")
        state[f"{target}.weight"] = kernel * scale[:, None, None, None]
        state[f"{target}.bias"] = shift - mean * scale
    return state
