# SPDX-License-Identifier: Apache-2.0
"""Coarse retrieval: maximum inner product search over the int8 codes of the map images.

A query is one or several descriptors, such as of a view and of views shifted sideways; the score of
a map image is its largest inner product with one of them. Small maps are searched exhaustively.
Others are searched by the leading coordinates, and a shortlist is re-ranked by all coordinates.
Above FLAT images the leading coordinates are in an inverted file (faiss IndexIVF), of which the
cells nearest to the query are searched: a file of the map, read into memory like the codes. It has
four bits of a coordinate, whose products are looked up in the processor's registers (André et al.,
VLDB 2015). Faiss, 40 MB, is imported for these files alone. They end with a checksum of the rest:
faiss believes the sizes that a file names.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from disam_ros.device import CPU
from disam_ros.errors import MapError
from disam_ros.files.reading import BLOCK, HeldFile
from disam_ros.files.writing import atomic_file
from disam_ros.models.arrays import code_products, like, row_products
from disam_ros.models.similarity import decode

if TYPE_CHECKING:
    import faiss
    from torch import Tensor

logger = logging.getLogger(__name__)

EXACT = 2_000  # images up to which all coordinates of all images are compared
FLAT = 20_000  # images, above which an inverted file is used
CHUNK = 8192  # codes added at once
WHOLE_PART = 2**24  # numbers of whole descriptors that are decoded at once
PART = 2**18  # images whose scores on a device are in memory at once
LEARNING = 64  # training images per cell for k-means, at most
FEWEST = 2  # images per cell on average, at least
CELLS_PER_ROOT = 2.0  # number of cells over the square root of the number of images
PROBED = 1 / 4  # share of the cells that are searched
LEADING = 96  # coordinates of largest variance, by which all images of a map are compared
IN_CELLS = 192  # those by which cells are clustered and searched
BITS = 4  # of each of these
LEVELS_FROM = 20_000  # images that the levels of these are learned from
SHORTLIST = 500  # images re-ranked by all coordinates, of all descriptors of a query together
LARGE = 1_000  # of a larger map, one image in so many
SEED = 0
SEAL = 32  # bytes of the checksum
SPARE = 2**26  # bytes of an index besides those of its images
INSTALL = "pip install faiss-cpu"
RENEW = "run 'disam map check'"

Codes = NDArray[np.int8]  # [N, d]
Steps = NDArray[np.float32]  # quantization steps of the codes [d] (models/similarity.py)
Query = NDArray[np.float32]  # coordinates of descriptors [K, d]
Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]  # rows [n] and their scores [n], best first
Bonus = NDArray[np.float64] | float


class CoarseIndex(Protocol):
    """Maximum inner product search."""

    def search(self, query: Query, count: int) -> Ranked:
        """Rows and scores of the `count` best images, best first, or of all if there are fewer.

        query: coordinates float32 [K, d] (compression.py). Returns int64 [n] and float32 [n].
        """


class FlatIndex:
    """Search of codes [N, d] on the CPU: of all coordinates, or with re-ranking."""

    def __init__(self, codes: Codes, steps: Steps) -> None:
        self._codes, self._steps = np.asarray(codes), steps
        self._decoded = decode(codes, steps) if len(codes) <= EXACT else None

    def search(self, query: Query, count: int) -> Ranked:
        if self._decoded is not None:
            scores = row_products(self._decoded, query).max(1)
            best = np.argsort(-scores, kind="stable")[:count]
            return best, scores[best]
        products = self._product(query[:, :LEADING] * self._steps[:LEADING])
        worth = min(_worth(len(self._codes), count, len(query)), len(self._codes))
        rows = np.argpartition(-products, worth - 1, axis=1)[:, :worth]
        return _best(self._codes, self._steps, np.unique(rows), query, count)

    @cached_property
    def _product(self) -> Callable[[Query], Query]:
        """Products of queries with the leading coordinates of all codes, in units of the steps."""
        return code_products(self._codes[:, :LEADING], np.ones(len(self._codes), np.float32))


class WholeIndex:
    """Exhaustive search of whole descriptors' codes [N, D], decoded in parts."""

    def __init__(self, codes: Codes, steps: Steps) -> None:
        self._codes, self._steps = codes, steps

    def search(self, query: Query, count: int) -> Ranked:
        numbers, part = (query * self._steps).T, max(1, WHOLE_PART // self._codes.shape[1])
        parts = (self._codes[at : at + part] for at in range(0, len(self._codes), part))
        scores = np.concatenate([(codes.astype(np.float32) @ numbers).max(1) for codes in parts])
        best = np.argsort(-scores, kind="stable")[:count]
        return best, scores[best]


class CellIndex:
    """Search of codes [N, d] by an inverted file with re-ranking."""

    def __init__(self, path: Path, codes: Codes, steps: Steps) -> None:
        """Raises ValueError where the file is not an index of these codes, or cannot be read."""
        _check_seal(path, len(codes) * len(steps))
        if find_spec("faiss") is None:
            raise ValueError(f"{path} needs faiss, which is not installed: {INSTALL}")
        import faiss

        try:
            self._index = faiss.read_index(str(path))
            self._cells = faiss.extract_index_ivf(self._index)
        except (RuntimeError, MemoryError) as error:
            raise ValueError(f"{path} cannot be read: {error}; {RENEW}") from error
        if self._index.ntotal != len(codes) or self._index.d > len(steps):
            size = f"{self._index.ntotal} images by {self._index.d} coordinates"
            raise ValueError(f"{path} has {size}, the map {len(codes)} by {len(steps)}; {RENEW}")
        self._cells.nprobe = max(1, round(PROBED * self._cells.nlist))
        self._codes, self._steps = np.asarray(codes), steps

    def search(self, query: Query, count: int) -> Ranked:
        rows = _nearest(self._index, query, count)
        return _best(self._codes, self._steps, rows, query, count)


class TorchIndex:
    """Exhaustive search on a device, in half precision; the best are ranked anew in float32.

    Besides the codes a search takes memory for the scores of PART images.
    """

    def __init__(self, codes: Codes, steps: Steps, device: str) -> None:
        import torch

        self._rows = torch.empty(codes.shape, dtype=torch.float16, device=device)
        for start in range(0, len(codes), CHUNK):
            part = torch.from_numpy(decode(codes[start : start + CHUNK], steps)).half()
            self._rows[start : start + CHUNK] = part.to(device)

    def search(self, query: Query, count: int) -> Ranked:
        import torch

        descriptors = like(query, self._rows)
        worth = [self._nearest(start, descriptors, count) for start in self._parts()]
        rows = torch.cat(worth)
        scores = (self._rows[rows].float() @ descriptors.float().T).amax(1)
        best = scores.topk(min(count, len(scores)))
        return rows[best.indices].cpu().numpy(), best.values.cpu().numpy()

    def _parts(self) -> range:
        return range(0, len(self._rows), PART)

    def _nearest(self, start: int, descriptors: Tensor, count: int) -> Tensor:
        """Rows of the part at `start` that are worth ranking for the `count` best."""
        scores = (self._rows[start : start + PART] @ descriptors.T).amax(1)
        return scores.topk(min(2 * count, len(scores))).indices + start


class PlaceIndex:
    """Search of codes [N, d] among the images near a position. positions: [N, 3] [m]."""

    def __init__(self, codes: Codes, steps: Steps, positions: NDArray[np.float64]) -> None:
        self._codes, self._steps = np.asarray(codes), steps
        self._tree = cKDTree(positions[:, :2])

    def near(self, x: float, y: float, radius: float) -> NDArray[np.int64]:
        """Rows int64 [n] of the images within `radius` [m] of (x, y)."""
        return np.array(self._tree.query_ball_point((x, y), radius), dtype=np.int64)

    def best(self, query: Query, count: int, rows: NDArray[np.int64], bonus: Bonus = 0.0) -> Ranked:
        """Searches as CoarseIndex does, among rows [n].

        bonus: [n], added to the scores for ranking, not to the returned scores.
        """
        return _best(self._codes, self._steps, rows, query, count, bonus)


def open_index(
    codes: Codes, steps: Steps, device: str, path: Path | None = None, whole: bool = False
) -> CoarseIndex:
    """The index for the device and the map size. path: of the inverted file, if there is one.

    whole: codes are of whole descriptors, whose first coordinates are no better than others.
    """
    if device != CPU:
        return TorchIndex(codes, steps, device)
    if whole:
        return WholeIndex(codes, steps)
    if len(codes) > FLAT and path is not None:
        try:
            return CellIndex(path, codes, steps)
        except ValueError as error:
            logger.warning("%s; searching exhaustively, which is slower", error)
    return FlatIndex(codes, steps)


def write_cells(path: Path, codes: Codes, steps: Steps) -> None:
    """Cluster codes [N, d] into cells and write the inverted file for CellIndex, atomically.

    Raises MapError where the disk is full or read-only, or faiss is not installed.
    """
    if find_spec("faiss") is None:
        raise MapError(
            f"the index {path} needs faiss, which is not installed; the map is complete without "
            f"it, but slower to search: {INSTALL}, then {RENEW}"
        )
    import faiss

    codes, steps = codes[:, :IN_CELLS], steps[:IN_CELLS]
    count = max(1, min(round(CELLS_PER_ROOT * len(codes) ** 0.5), len(codes) // FEWEST))
    order = np.random.default_rng(SEED).permutation(len(codes))
    settings = {"niter": 10, "seed": SEED, "spherical": True, "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(len(steps), count, **settings)
    kmeans.train(decode(codes[np.sort(order[: LEARNING * count])], steps))
    centres = faiss.IndexFlatIP(len(steps))
    centres.add(np.asarray(kmeans.centroids, np.float32))
    index = faiss.IndexIVFPQFastScan(
        centres, len(steps), count, len(steps), BITS, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    index.pq.cp.min_points_per_centroid = 1
    learned = decode(codes[np.sort(order[:LEVELS_FROM])], steps)
    index.train(np.resize(learned, (max(len(learned), 2**BITS), len(steps))))  # some more than once
    _add(index, codes, steps)
    try:
        with atomic_file(path, "wb") as file:
            digest = hashlib.sha256()

            def write(data: bytes) -> int:
                digest.update(data)
                return file.write(data)

            writer = faiss.PyCallbackIOWriter(write)  # type: ignore[attr-defined]
            faiss.write_index(index, writer)
            file.write(digest.digest())
    except (RuntimeError, OSError) as error:
        raise MapError(
            f"the index {path} cannot be written: {error}; the map is complete without it, but "
            f"slower to search: free space or make it writable, then {RENEW}"
        ) from error


def _check_seal(path: Path, numbers: int) -> None:
    """Raise ValueError unless a file ends with the checksum of the rest.

    numbers: of the codes, of which an index has no more than twice as many bytes, and SPARE.
    """
    try:
        file = HeldFile(path, MapError)
        if not SEAL < file.size <= 2 * numbers + SPARE:
            raise ValueError(
                f"{path} has {file.size} bytes, which no index of this map has; {RENEW}"
            )
        digest = hashlib.sha256()
        for start in range(0, file.size - SEAL, BLOCK):
            digest.update(file.read(start, min(BLOCK, file.size - SEAL - start)))
        if file.read(file.size - SEAL, SEAL) != digest.digest():
            raise ValueError(f"{path} is damaged, or of an older version; {RENEW}")
    except MapError as error:
        raise ValueError(f"{error}; {RENEW}") from error


def _nearest(index: faiss.Index, query: Query, count: int) -> NDArray[np.int64]:
    """Rows, each once, that are worth re-ranking for the `count` best, by leading coordinates.

    Faiss searches on a single thread: several wait for each other at so few queries.
    """
    import faiss

    leading = np.ascontiguousarray(query[:, : index.d])
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        worth = _worth(index.ntotal, count, len(query))
        _, rows = index.search(leading, min(worth, index.ntotal))
    finally:
        faiss.omp_set_num_threads(threads)
    rows = np.unique(rows)
    return rows[rows >= 0]


def _worth(images: int, count: int, descriptors: int) -> int:
    """Returns how many images are worth re-ranking for the `count` best, for each descriptor."""
    shortlist = max(SHORTLIST, images // LARGE)
    return max(2 * count, shortlist // descriptors)


def _best(
    codes: Codes,
    steps: Steps,
    rows: NDArray[np.int64],
    query: Query,
    count: int,
    bonus: Bonus = 0.0,
) -> Ranked:
    """The `count` rows of largest inner product (plus bonus) among given rows, and their scores."""
    scores = row_products(codes[rows].astype(np.float32), query * steps).max(1)
    best = np.argsort(-(scores + bonus), kind="stable")[:count]
    return rows[best], scores[best]


def _add(index: faiss.Index, codes: Codes, steps: Steps) -> None:
    for start in range(0, len(codes), CHUNK):
        index.add(decode(codes[start : start + CHUNK], steps))
