# SPDX-License-Identifier: Apache-2.0
"""Rival methods of visual place recognition (described in accuracy/page.md.j2).

A peer is a function of uint8 RGB map images and query images that returns their similarities
float32 [Q, M]. It may learn from the map's images, such as a mean or a vocabulary, and never from
the queries: a robot has not seen them yet when the map is made. A sequence peer searches another
peer's similarities for a sequence of images, drive by drive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

Images = Sequence[NDArray[Any]]
Peer = Callable[[Images, Images], NDArray[Any]]

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


def peer_similarities(
    map_images: Images, drives: Sequence[Images], velocities: tuple[float, float] = SAME_PACE
) -> Iterator[tuple[str, list[NDArray[Any]]]]:
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
