# SPDX-License-Identifier: Apache-2.0
"""Global image descriptors: one vector per image, compared by cosine similarity.

config.py      architecture
backbones.py   images → features (backbone_weights.py: pretrained weights)
heads.py       feature aggregation: NetVLAD, MAC, GeM, SAFA
depth.py       depth prediction from the image, and features of the depth map
whitening.py   PCA whitening
network.py     the whole network
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from disam_ros.models.global_descriptors.config import BACKBONES, HEADS, GlobalConfig

if TYPE_CHECKING:
    from disam_ros.models.global_descriptors.backbone_weights import read_backbone_weights
    from disam_ros.models.global_descriptors.depth import DEPTH_LIMIT
    from disam_ros.models.global_descriptors.network import GlobalNetwork, Parts

__all__ = [
    "BACKBONES",
    "DEPTH_LIMIT",
    "HEADS",
    "GlobalConfig",
    "GlobalNetwork",
    "Parts",
    "read_backbone_weights",
]

_MODULES = {  # of the names that need torch, imported when they are used
    "read_backbone_weights": "backbone_weights",
    "DEPTH_LIMIT": "depth",
    "GlobalNetwork": "network",
    "Parts": "network",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
