# SPDX-License-Identifier: Apache-2.0
"""Global descriptors: one network gives one vector per image, compared by its cosine.

config.py      what a network is made of
backbones.py   images → features (backbone_weights.py: from files of pretrained weights)
heads.py       features → a vector: NetVLAD, MAC, GeM, SAFA
depth.py       a depth map predicted from the image, and its features
whitening.py   vectors → fewer, decorrelated numbers
network.py     all of it as one module
"""

from disam_ros.models.global_descriptors.backbone_weights import read_backbone_weights
from disam_ros.models.global_descriptors.config import BACKBONES, HEADS, GlobalConfig
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
