# SPDX-License-Identifier: Apache-2.0
"""Global image descriptors: one vector per image, compared by cosine similarity.

config.py      architecture
backbones.py   images → features (backbone_weights.py: pretrained weights)
heads.py       feature aggregation: NetVLAD, MAC, GeM, SAFA
depth.py       depth prediction from the image, and features of the depth map
whitening.py   PCA whitening
network.py     the whole network
"""
