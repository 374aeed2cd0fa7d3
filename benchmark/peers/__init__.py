# SPDX-License-Identifier: Apache-2.0
"""Other ways to find the place of an image, to stand beside ours.

A peer is a function of uint8 RGB map images and query images that returns their similarities
float32 [Q, M]. It may learn from the map's images, such as a mean or a vocabulary, and never from
the queries: a robot has not seen them yet when the map is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmark.peers.efficientnet import (
    centred_grid_similarity,
    gem_similarity,
    grid_similarity,
)
from benchmark.peers.hog import hog_similarity
from benchmark.peers.vlad import vlad_similarity

Images = Sequence[np.ndarray]
Peer = Callable[[Images, Images], np.ndarray]

PEERS: dict[str, Peer] = {
    "HOG": hog_similarity,
    "RootSIFT-VLAD": vlad_similarity,
    "EfficientNet-Lite0, GeM": gem_similarity,
    "EfficientNet-Lite0, 5×8": grid_similarity,
    "EfficientNet-Lite0, 5×8, centred": centred_grid_similarity,
}
ABOUT = """## Peers

They run offline and answer with the pose of the most similar map image; none is trained for places.

* HOG: one gradient histogram of the image at 128×96 px, centred with the map's mean.
* RootSIFT-VLAD, of DenseVLAD's kind (Torii et al., CVPR 2015): upright SIFT on a dense grid at four
  scales, 64 words learned from the map's own images.
* EfficientNet-Lite0 as trained on ImageNet, images at 320 px. GeM: generalized mean of the last
  block. 5×8: block 10 averaged over 5×8 cells; centred: less the map's mean.
"""
