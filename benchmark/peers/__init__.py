# SPDX-License-Identifier: Apache-2.0
"""Other ways to find the place of an image, to stand beside ours.

A peer is a function of uint8 RGB map images and query images that returns their similarities
float32 [Q, M]. It may learn from the map's images, such as a mean or a vocabulary, and never from
the queries: a robot has not seen them yet when the map is made. A sequence peer searches another
peer's similarities for a sequence of images, drive by drive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmark.peers.efficientnet import (
    centred_grid_similarity,
    gem_similarity,
    grid_similarity,
)
from benchmark.peers.orb_words import orb_words_similarity
from benchmark.peers.sad import sad_similarity
from benchmark.peers.sequence import SAME_PACE, sequence_similarity
from benchmark.peers.vlad import vlad_similarity
from disam_ros.evaluation.baselines import hog_similarity

Images = Sequence[np.ndarray]
Peer = Callable[[Images, Images], np.ndarray]

PEERS: dict[str, Peer] = {
    "HOG": hog_similarity,
    "Patch-normalised SAD": sad_similarity,
    "ORB words": orb_words_similarity,
    "RootSIFT-VLAD": vlad_similarity,
    "EfficientNet-Lite0, GeM": gem_similarity,
    "EfficientNet-Lite0, 5×8": grid_similarity,
    "EfficientNet-Lite0, 5×8, centred": centred_grid_similarity,
}
SEQUENCE_PEERS = {"SeqSLAM (SAD over 10 frames)": "Patch-normalised SAD"}  # by what they search
ABOUT = """## Peers

They run offline and answer with the pose of the most similar map image; none is trained for places.
All judge an image on its own, as disam_ros does, but SeqSLAM, which needs a sequence.

* HOG: one gradient histogram of the image at 128×96 px, centred with the map's mean.
* Patch-normalised SAD (Milford & Wyeth, ICRA 2012): mean absolute difference of grey images at
  64×32 px whose patches of 8×8 px have mean 0 and deviation 1; a flat patch is a checkerboard.
* SeqSLAM (the same paper): local contrast enhancement of those differences over 10 map images, then
  the best straight line over the last 10 frames of the drive; online, it never looks ahead. Window
  and length are the paper's, and so are the velocities of 0.8 to 1.2 map images per query; in the
  town, 1.6 to 3.6, the drives' 4 to 9 m/s. Where map images lie close together, as on Gardens Point
  and in the town, a place's neighbours resemble it over the whole window, and contrast is lost.
* ORB words, of DBoW2's kind (Gálvez-López & Tardós, T-RO 2012): up to 1000 ORB keypoints of the
  image at its own size, a tree of 10 branches and 4 levels learned from the map's own images,
  tf-idf, L1 score; no check of geometry.
* RootSIFT-VLAD, of DenseVLAD's kind (Torii et al., CVPR 2015): upright SIFT on a dense grid at four
  scales, 64 words learned from the map's own images.
* EfficientNet-Lite0 as trained on ImageNet, images at 320 px. GeM: generalized mean of the last
  block. 5×8: block 10 averaged over 5×8 cells; centred: less the map's mean.
"""


def peer_similarities(
    map_images: Images, drives: Sequence[Images], velocities: tuple[float, float] = SAME_PACE
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Every peer's similarities [Q, M], drive by drive; images are described once per PEERS entry.

    drives: uint8 RGB images in the order they were taken. velocities: slowest and fastest of a
    drive, in map images per query, for sequences.
    """
    queries = [image for drive in drives for image in drive]
    ends = np.cumsum([len(drive) for drive in drives])[:-1]
    for name, peer in PEERS.items():
        single = np.split(peer(map_images, queries), ends)
        yield name, single
        for sequence_name, searched in SEQUENCE_PEERS.items():
            if searched == name:
                yield sequence_name, [sequence_similarity(rows, velocities) for rows in single]
