# SPDX-License-Identifier: Apache-2.0
"""Bag of ORB words as DBoW2 makes it (Gálvez-López & Tardós, T-RO 2012).

As there: a tree of binary words by k-medians from k-means++ seeds, tf-idf weights, the L1 score.
Not as there: ORB (Rublee et al., ICCV 2011) instead of BRIEF, four levels of ten branches instead
of six, learned from the map's own images; no check of neighbouring frames or of geometry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

FEATURES = 1000  # keypoints of an image at most, the strongest
FAST_THRESHOLD = 7  # grey levels a corner must stand out by; low, for images with little contrast
BYTES = 32  # of a descriptor
BRANCHES = 10  # of a node of the vocabulary (paper: k = 10)
LEVELS = 4  # of the vocabulary, 10⁴ words (paper: L = 6, learned from ten million descriptors)
ROUNDS = 10  # of k-medians at most
SEED = 0


def orb_words_similarity(
    map_images: Iterable[NDArray[Any]], query_images: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    """uint8 RGB images [H, W, 3] → similarities [Q, M], 0…1; 0 for an image without a keypoint."""
    references, queries = ([orb(i) for i in images] for images in (map_images, query_images))
    tree = grow(np.concatenate(references), LEVELS, np.random.default_rng(SEED))
    counts = count_words(tree, references)
    idf = np.log(len(counts) / (counts > 0).sum(0).clip(1))
    return l1_score(weighted(count_words(tree, queries), idf), weighted(counts, idf))


def orb(image: NDArray[Any]) -> NDArray[Any]:
    """uint8 RGB image [H, W, 3] → descriptors of its keypoints, uint8 [P, BYTES]."""
    detector = cv2.ORB.create(FEATURES, fastThreshold=FAST_THRESHOLD)
    _, rows = detector.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    return np.zeros((0, BYTES), np.uint8) if rows is None else rows


@dataclass(frozen=True)
class Node:
    """A node of the vocabulary tree; one without children is a word."""

    centres: NDArray[Any]  # of the children, uint8 [K, BYTES]
    children: tuple[Node, ...] = ()

    @property
    def size(self) -> int:
        """Words below this node."""
        return sum(child.size for child in self.children) or 1

    def words(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Number [N] of the word that descriptors [N, BYTES] descend to."""
        numbers = np.zeros(len(rows), int)
        if not self.children or not len(rows):
            return numbers
        _, branch = nearest(rows, self.centres)
        first = 0
        for number, child in enumerate(self.children):
            inside = branch == number
            numbers[inside] = first + child.words(rows[inside])
            first += child.size
        return numbers


def grow(rows: NDArray[Any], levels: int, rng: np.random.Generator) -> Node:
    """The tree of so many levels that descriptors [N, BYTES] make."""
    centres = medians(rows, rng) if levels and len(rows) else rows[:0]
    if len(centres) < 2:
        return Node(rows[:0])
    _, branch = nearest(rows, centres)
    below = (grow(rows[branch == k], levels - 1, rng) for k in range(len(centres)))
    return Node(centres, tuple(below))


def medians(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """BRANCHES centres of descriptors [N, BYTES], fewer where fewer of them differ.

    k-means++ seeds (Arthur & Vassilvitskii, SODA 2007), then k-medians.
    """
    seeds = rows[[rng.integers(len(rows))]]
    while len(seeds) < BRANCHES:
        distance, _ = nearest(rows, seeds)
        if not distance.any():
            break
        chance = distance.astype(float) ** 2
        seeds = np.concatenate([seeds, rows[[rng.choice(len(rows), p=chance / chance.sum())]]])
    return lloyd(rows, seeds)


def lloyd(rows: NDArray[Any], centres: NDArray[Any]) -> NDArray[Any]:
    """k-medians from given centres; the median of binary rows is the majority of each bit."""
    bits = np.unpackbits(rows, axis=1)
    for _ in range(ROUNDS):
        _, branch = nearest(rows, centres)
        majority = [bits[branch == k].mean(0) >= 0.5 for k in np.unique(branch)]
        before, centres = centres, np.packbits(majority, axis=1)
        if np.array_equal(before, centres):
            break
    return centres


def nearest(rows: NDArray[Any], centres: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Hamming distance [N] of rows [N, BYTES] to the nearest centre, and its number [N]."""
    index = faiss.IndexBinaryFlat(8 * centres.shape[1])
    index.add(centres)
    distances, numbers = index.search(rows, 1)
    return distances[:, 0], numbers[:, 0]


def count_words(tree: Node, described: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """How often each image, descriptors [P, BYTES], has each word: int [N, W]."""
    image = np.repeat(np.arange(len(described)), [len(rows) for rows in described])
    cells = image * tree.size + tree.words(np.concatenate(described))
    return np.bincount(cells, minlength=len(described) * tree.size).reshape(-1, tree.size)


def weighted(counts: NDArray[Any], idf: NDArray[Any]) -> NDArray[Any]:
    """Counts [N, W] times inverse document frequencies [W], rows scaled to sum 1, float32."""
    rows = counts * idf
    result: NDArray[Any] = (rows / rows.sum(1, keepdims=True).clip(1e-12)).astype(np.float32)
    return result


def l1_score(queries: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
    """Rows of sum 1, [Q, W] and [M, W] → 1 − ½|q − r|₁, which is Σ min(q, r), float32 [Q, M]."""
    inverted = np.ascontiguousarray(references.T)
    scores = np.zeros((len(queries), len(references)), np.float32)
    for score, query in zip(scores, queries, strict=True):
        (words,) = query.nonzero()
        score += np.minimum(inverted[words], query[words, None]).sum(0)
    return scores
