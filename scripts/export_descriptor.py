#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports a published network as an ONNX file for `disam import-model` (docs/own_descriptor.md).

Usage: export_descriptor.py NAME; writes NAME.onnx, with larger weights in NAME.onnx.data beside it.
Needs internet access, torch 2.6 or newer, torchvision, onnx and onnxscript. torch.hub runs code of
the repository that it loads: read it, or pin a commit (owner/name:commit).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = "dinov2_vitg14_l31_value_c32_urban_c_centers.pt"  # or indoor, aerial, global, …
VOCABULARIES = "https://github.com/AnyLoc/DINO/releases/download/v1/"


def export(network: nn.Module, file: str, height: int, width: int) -> None:
    """Writes an ONNX file for any batch size."""
    torch.onnx.export(
        network.eval().requires_grad_(False),
        (torch.zeros(2, 3, height, width),),
        file,
        dynamo=True,
        input_names=["image"],
        output_names=["descriptor"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


class First(nn.Module):
    """The first output of a network that returns several."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        return self.network(image)[0]


class PatchTokens(nn.Module):
    """DINOv2's patch tokens as a feature map [B, C, h, w]."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        return self.network.get_intermediate_layers(image, n=1, reshape=True)[0]


class Vlad(nn.Module):
    """AnyLoc: VLAD on the value facet of a layer of DINOv2. centres: [K, C] of its vocabulary."""

    centres: Tensor

    def __init__(self, network: Any, centres: Tensor, layer: int = 31) -> None:
        super().__init__()
        network.blocks = network.blocks[: layer + 1]
        network.blocks[layer].attn.qkv.register_forward_hook(self.keep)
        self.network = network
        self.register_buffer("centres", centres)

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        """Keeps the values of the layer, the last third of queries, keys and values."""
        self.values = output[:, 1:, 2 * output.shape[2] // 3 :]

    def forward(self, image: Tensor) -> Tensor:
        self.network(image)
        x = functional.normalize(self.values, dim=2)
        nearest = (x @ functional.normalize(self.centres, dim=1).T).argmax(2)
        chosen = functional.one_hot(nearest, len(self.centres)).to(x.dtype)
        sums = chosen.mT @ x - chosen.sum(1)[:, :, None] * self.centres
        return functional.normalize(functional.normalize(sums, dim=2).flatten(1), dim=1)


def hub(repository: str, entry: str, **options: Any) -> nn.Module:
    """Loads a network with torch.hub."""
    network: nn.Module = torch.hub.load(repository, entry, **options)
    return network


def megaloc() -> nn.Module:
    """MegaLoc; also needs huggingface_hub and safetensors."""
    return hub("gmberton/MegaLoc", "get_trained_model")


def boq() -> nn.Module:
    """Bag-of-Queries without its attention; 384×384 pixels with resnet50 and output_dim=16384."""
    options = {"backbone_name": "dinov2", "output_dim": 12288}
    return First(hub("amaralibey/bag-of-queries", "get_trained_boq", **options))


def eigenplaces(repository: str = "gmberton/eigenplaces") -> nn.Module:
    """EigenPlaces; ResNet18 and fewer dimensions suit a CPU."""
    return hub(repository, "get_trained_model", backbone="ResNet50", fc_output_dim=2048)


def cosplace() -> nn.Module:
    """CosPlace."""
    return eigenplaces("gmberton/cosplace")


def selavpr() -> nn.Module:
    """SelaVPR++ without hashing, out of its DataParallel; 4096-D with dinov2-large."""
    name, options = "SelaVPRplusplus", {"hashing": False, "rerank": False}
    parts = {"backbone": "dinov2-base", "aggregation": "gem"}
    return hub("Lu-Feng/SelaVPRplusplus", name, **parts, **options).get_submodule("module")


def dinov2() -> nn.Module:
    """DINOv2; not every torch exports the variants with registers (_reg) correctly."""
    return PatchTokens(hub("facebookresearch/dinov2", "dinov2_vits14"))


def anyloc() -> nn.Module:
    """AnyLoc with ViT-g: 3.6 GB, some 20 GB of memory for the export."""
    centres: Any = torch.hub.load_state_dict_from_url(VOCABULARIES + VOCABULARY, map_location="cpu")
    return Vlad(hub("facebookresearch/dinov2", "dinov2_vitg14"), centres)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # with height and width
    "megaloc": (megaloc, 322, 322),
    "boq": (boq, 322, 322),
    "eigenplaces": (eigenplaces, 480, 640),
    "cosplace": (cosplace, 480, 640),
    "selavpr": (selavpr, 322, 322),
    "dinov2": (dinov2, 224, 308),
    "anyloc": (anyloc, 224, 308),
}


def main(arguments: list[str]) -> int:
    """Exports the named network. Returns the exit status."""
    if len(arguments) != 1 or arguments[0] not in NETWORKS:
        print(f"usage: export_descriptor.py NAME, one of {', '.join(NETWORKS)}", file=sys.stderr)
        return 2
    create, height, width = NETWORKS[arguments[0]]
    export(create(), f"{arguments[0]}.onnx", height, width)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
